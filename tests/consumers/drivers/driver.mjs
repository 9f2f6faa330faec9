// For each line on standard input: one request for the caller's identity by the AWS SDK for JavaScript, at
// STS_ENDPOINT, with one client and the SDK's default credential chain. Says the account, or why there was none.
// `threads N`: N requests at once, each with a client of its own. SDK names the folder that the SDK is installed in.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { STSClient, GetCallerIdentityCommand } = createRequire(process.env.SDK + "/")("@aws-sdk/client-sts");

const newClient = () => new STSClient({ endpoint: process.env.STS_ENDPOINT, maxAttempts: 1 });

const ask = async (client) => (await client.send(new GetCallerIdentityCommand({}))).Account;

// An error and its causes in one line.
const chain = (error) => {
  const said = [];
  for (let each = error; each; each = each.cause) said.push(`${each.name}: ${each.message}`);
  return said.join(": ").replace(/\s+/g, " ");
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
