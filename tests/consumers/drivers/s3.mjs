// For each line on standard input: an object is put, listed, read and deleted by the S3 client of the AWS SDK for JavaScript
// at S3_ENDPOINT. Says that it was the same, or what the service refused. SDK names the folder that the SDK is installed in.

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
  let said;
  try {
    await client.send(new PutObjectCommand({ Bucket, Key, Body: "x".repeat(100_000) }));
    const { Contents } = await client.send(new ListObjectsV2Command({ Bucket, Prefix: "javascript/" }));
    const { Body } = await client.send(new GetObjectCommand({ Bucket, Key }));
    const same = (await Body.transformToString()) === "x".repeat(100_000);
    await client.send(new DeleteObjectCommand({ Bucket, Key }));
    said = { same: same && Contents.some((each) => each.Key === Key) };
  } catch (error) {
    said = { error: `${error.name}: ${error.message}` };
  }
  // The SDK may be asking for other credentials meanwhile, which takes it no time to speak of in a world of long steps.
  while (process.getActiveResourcesInfo().includes("ProcessWrap")) await new Promise(setImmediate);
  console.log(JSON.stringify(said));
}
