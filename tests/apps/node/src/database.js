import pg from "pg";
import config from "./config.js";

const pool = new pg.Pool({ connectionString: config.databaseUrl });

export const query = async (text, values) => (await pool.query(text, values)).rows;
