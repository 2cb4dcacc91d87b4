import { GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";
import config from "./config.js";

const client = new S3Client();
const Bucket = config.bucket;

export const put = (Key, Body, ContentType) => client.send(new PutObjectCommand({ Bucket, Key, Body, ContentType }));

export const read = async (Key) => {
  const { Body } = await client.send(new GetObjectCommand({ Bucket, Key }));
  return Body.transformToString();
};

export const link = (Key) => getSignedUrl(client, new GetObjectCommand({ Bucket, Key }), { expiresIn: 600 });
