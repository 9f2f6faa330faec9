// For each line on standard input: writes, lists, reads and deletes an object at S3_ENDPOINT with the AWS SDK for
// JavaScript. Prints whether the object was read back unchanged, or the error. SDK is the folder in which the SDK is
// installed.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { S3Client, PutObjectCommand, GetObjectCommand, DeleteObjectCommand, ListObjectsV2Command } = createRequire(
  process.env.SDK + "/",
)("@aws-sdk/client-s3");

const client = new S3Client({ endpoint: process.env.S3_ENDPOINT, forcePathStyle: true, maxAttempts: 1 });
const Bucket = "proof";
let number = 0;
for await (const _ of createInterface({ input: process.stdin })) {
  const Key = `javascript/${number++} ü+~`;
  let result;
  try {
    await client.send(new PutObjectCommand({ Bucket, Key, Body: "x".repeat(100_000) }));
    const { Contents } = await client.send(new ListObjectsV2Command({ Bucket, Prefix: "javascript/" }));
    const { Body } = await client.send(new GetObjectCommand({ Bucket, Key }));
    const same = (await Body.transformToString()) === "x".repeat(100_000);
    await client.send(new DeleteObjectCommand({ Bucket, Key }));
    result = { same: same && Contents.some((each) => each.Key === Key) };
  } catch (error) {
    result = { error: `${error.name}: ${error.message}` };
  }
  // The SDK may still run credential_process in the background. Virtual time must not advance meanwhile.
  while (process.getActiveResourcesInfo().includes("ProcessWrap")) await new Promise(setImmediate);
  console.log(JSON.stringify(result));
}
