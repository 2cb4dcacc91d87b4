import IORedis from "ioredis";
import { Queue } from "bullmq";
import config from "./config.js";

export const name = "notices";
export const connect = () => new IORedis(config.redisUrl, { maxRetriesPerRequest: null });
export const queue = () => new Queue(name, { connection: connect() });
