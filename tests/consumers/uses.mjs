// For each line on standard input: signs one request with the AWS SDK for JavaScript, and prints the access key or the
// error. SDK is the folder in which the SDK is installed.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";

const { S3Client, ListBucketsCommand } = createRequire(process.env.SDK + "/")("@aws-sdk/client-s3");

let key;
const requestHandler = {
  // Replaces the network.
  handle: async (request) => {
    key = request.headers.authorization.split("Credential=")[1].split("/")[0];
    const body = Readable.from(["<ListAllMyBucketsResult/>"]);
    return { response: { statusCode: 200, headers: { "content-type": "application/xml" }, body } };
  },
};
const client = new S3Client({ region: "eu-central-1", requestHandler, maxAttempts: 1 });
for await (const _ of createInterface({ input: process.stdin })) {
  let result;
  try {
    await client.send(new ListBucketsCommand({}));
    result = { key };
  } catch (error) {
    result = { error: `${error.name}: ${error.message}`.split("\n")[0] };
  }
  // The SDK may still run credential_process in the background. Virtual time must not advance meanwhile.
  while (process.getActiveResourcesInfo().includes("ProcessWrap")) await new Promise(setImmediate);
  console.log(JSON.stringify(result));
}
