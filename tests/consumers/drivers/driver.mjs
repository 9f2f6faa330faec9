// For each line on standard input: calls GetCallerIdentity at STS_ENDPOINT with the AWS SDK for JavaScript, one client
// and the default credential chain. Prints the account or the error. `threads N`: N calls at once, each with its own
// client. SDK is the folder in which the SDK is installed.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { STSClient, GetCallerIdentityCommand } = createRequire(process.env.SDK + "/")("@aws-sdk/client-sts");

const newClient = () => new STSClient({ endpoint: process.env.STS_ENDPOINT, maxAttempts: 1 });

const ask = async (client) => (await client.send(new GetCallerIdentityCommand({}))).Account;

// An error and its causes in one line.
const chain = (error) => {
  const messages = [];
  for (let each = error; each; each = each.cause) messages.push(`${each.name}: ${each.message}`);
  return messages.join(": ").replace(/\s+/g, " ");
};

const atOnce = async (number) => {
  const results = await Promise.allSettled(Array.from({ length: number }, () => ask(newClient())));
  const errors = results.filter(({ status }) => status === "rejected").map(({ reason }) => chain(reason));
  return { accounts: number - errors.length, errors };
};

let client;
const answer = async (line) => {
  const [word, number] = line.split(" ");
  try {
    return word === "threads" ? await atOnce(Number(number)) : { account: await ask((client ??= newClient())) };
  } catch (error) {
    return { error: chain(error) };
  }
};

for await (const line of createInterface({ input: process.stdin })) console.log(JSON.stringify(await answer(line)));
