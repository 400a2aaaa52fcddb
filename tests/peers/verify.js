// Verifies requests with the `standardwebhooks` package: verify.js REQUESTS.json, each with secret, headers and body.
const { readFileSync } = require("node:fs");
const { Webhook } = require("standardwebhooks");

const requests = JSON.parse(readFileSync(process.argv[2], "utf8"));
for (const { secret, headers, body } of requests) {
  new Webhook(secret).verify(body, headers);
  let taken = true;
  try {
    new Webhook(secret).verify(body + " ", headers);
  } catch {
    taken = false;
  }
  if (taken) {
    throw new Error("a changed body was taken");
  }
}
console.log(`verified ${requests.length}`);
