// The AWS SDK for JavaScript with its defaults, told where to go only by the variables that an environment gets: across
// ten thousand keys of a baseline, a large upload, one that is taken up again, copies, presigned URLs, many deletions.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import {
  AbortMultipartUploadCommand, CompleteMultipartUploadCommand, CopyObjectCommand, CreateMultipartUploadCommand,
  DeleteObjectsCommand, GetObjectCommand, GetObjectTaggingCommand, HeadObjectCommand, ListMultipartUploadsCommand,
  ListObjectVersionsCommand, ListPartsCommand, PutObjectCommand, S3Client, UploadPartCommand, paginateListObjectsV2,
} from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";

const s3 = new S3Client({});
const Bucket = process.env.S3_BUCKET;
const MIB = 1 << 20;
const md5 = (bytes) => createHash("md5").update(bytes).digest("hex");
const body = async (Key, more) => (await s3.send(new GetObjectCommand({ Bucket, Key, ...more }))).Body.transformToByteArray();

async function refused(name, command) {
  await assert.rejects(s3.send(command), (error) => error.name === name || assert.fail(`${name} expected, not ${error.name}`));
}

async function list(query) {
  const [keys, prefixes] = [[], []];
  for await (const page of paginateListObjectsV2({ client: s3 }, { Bucket, ...query })) {
    keys.push(...(page.Contents ?? []).map((entry) => entry.Key));
    prefixes.push(...(page.CommonPrefixes ?? []).map((entry) => entry.Prefix));
  }
  return { keys, prefixes };
}

async function baseline() {
  const all = await list({});
  assert.equal(all.keys.length, 10_000);
  const folders = await list({ Delimiter: "/" });
  assert.deepEqual([folders.keys.length, folders.prefixes.length], [0, 100]);
  assert.equal((await list({ Prefix: "f7/", Delimiter: "/" })).keys.length, 100);
  assert.equal(Buffer.from(await body("f7/107.txt")).toString(), "107");
}

async function own() {
  const text = "from a script";
  await s3.send(new PutObjectCommand({ Bucket, Key: "f7/107.txt", Body: text, Metadata: { by: "js" }, Tagging: "a=b&c=d" }));
  assert.equal(Buffer.from(await body("f7/107.txt", { Range: "bytes=5-5" })).toString(), "a");
  const head = await s3.send(new HeadObjectCommand({ Bucket, Key: "f7/107.txt" }));
  assert.deepEqual(head.Metadata, { by: "js" });
  await refused("PreconditionFailed", new PutObjectCommand({ Bucket, Key: "f7/207.txt", Body: "x", IfNoneMatch: "*" }));
  await refused("NotImplemented", new ListObjectVersionsCommand({ Bucket }));
  const odd = "sp ace/ä+ü/../%2F.txt";
  await s3.send(new CopyObjectCommand({ Bucket, Key: odd, CopySource: `${Bucket}/f7/107.txt` }));
  assert.equal(Buffer.from(await body(odd)).toString(), text);
  const tags = await s3.send(new GetObjectTaggingCommand({ Bucket, Key: odd }));
  assert.deepEqual(tags.TagSet, [{ Key: "a", Value: "b" }, { Key: "c", Value: "d" }]);
}

async function large() {
  const bytes = randomBytes(100 * MIB);
  await new Upload({ client: s3, params: { Bucket, Key: "large", Body: bytes } }).done();
  assert.equal(md5(await body("large")), md5(bytes));
}

/** An upload that broke off: what is there is found, and the rest is sent. */
async function resumed() {
  const bytes = randomBytes(12 * MIB);
  const part = (number) => bytes.subarray((number - 1) * 5 * MIB, number * 5 * MIB);
  const begun = await s3.send(new CreateMultipartUploadCommand({ Bucket, Key: "resumed" }));
  const send = (UploadId, number) =>
    s3.send(new UploadPartCommand({ Bucket, Key: "resumed", UploadId, PartNumber: number, Body: part(number) }));
  await send(begun.UploadId, 1);
  const { Uploads } = await s3.send(new ListMultipartUploadsCommand({ Bucket, Prefix: "resumed" }));
  assert.equal(Uploads.length, 1);
  const UploadId = Uploads[0].UploadId;
  const there = (await s3.send(new ListPartsCommand({ Bucket, Key: "resumed", UploadId }))).Parts;
  assert.deepEqual(there.map((found) => found.PartNumber), [1]);
  const Parts = there.map(({ PartNumber, ETag, ChecksumCRC32 }) => ({ PartNumber, ETag, ChecksumCRC32 }));
  for (const PartNumber of [2, 3]) {
    const { ETag, ChecksumCRC32 } = await send(UploadId, PartNumber);
    Parts.push({ PartNumber, ETag, ChecksumCRC32 });
  }
  await s3.send(new CompleteMultipartUploadCommand({ Bucket, Key: "resumed", UploadId, MultipartUpload: { Parts } }));
  assert.equal(md5(await body("resumed")), md5(bytes));
  await refused("NoSuchUpload", new AbortMultipartUploadCommand({ Bucket, Key: "resumed", UploadId }));
}

async function presigned() {
  const put = await getSignedUrl(s3, new PutObjectCommand({ Bucket, Key: "signed" }), { expiresIn: 60 });
  assert.equal((await fetch(put, { method: "PUT", body: "by URL" })).status, 200);
  const get = await getSignedUrl(s3, new GetObjectCommand({ Bucket, Key: "signed" }), { expiresIn: 60 });
  assert.equal(await (await fetch(get)).text(), "by URL");
  assert.equal((await fetch(get.replace("signed", "large"))).status, 403);
}

async function many() {
  const { keys } = await list({ Prefix: "f1" });
  const Objects = keys.slice(0, 1000).map((Key) => ({ Key }));
  const { Deleted, Errors } = await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects } }));
  assert.deepEqual([Deleted.length, Errors], [1000, undefined]);
  assert.equal((await list({ Prefix: "f1" })).keys.length, keys.length - 1000);
}

for (const work of [baseline, own, large, resumed, presigned, many]) {
  await work();
}
