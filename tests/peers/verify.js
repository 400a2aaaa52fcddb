// Verifies requests: verify.js REQUESTS.json, each with secret, headers and body. Where the secret is a public key, with Node's own library;
// else with the `standardwebhooks` package.
const crypto = require("node:crypto");
const { readFileSync } = require("node:fs");
const { Webhook } = require("standardwebhooks");

function verifyPublic(secret, body, headers) {
  const x = Buffer.from(secret.replace(/^whpk_/, ""), "base64").toString("base64url");
  const key = crypto.createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  const message = Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`);
  const signatures = headers["webhook-signature"].split(" ").map((text) => text.split(","));
  const signed = ([version, encoded]) =>
    version === "v1a" && crypto.verify(null, message, key, Buffer.from(encoded, "base64"));
  if (!signatures.some(signed)) {
    throw new Error("no signature is of this key");
  }
}

function verify(secret, body, headers) {
  if (secret.startsWith("whpk_")) {
    verifyPublic(secret, body, headers);
  } else {
    new Webhook(secret).verify(body, headers);
  }
}

const requests = JSON.parse(readFileSync(process.argv[2], "utf8"));
for (const { secret, headers, body } of requests) {
  verify(secret, body, headers);
  let taken = true;
  try {
    verify(secret, body + " ", headers);
  } catch {
    taken = false;
  }
  if (taken) {
    throw new Error("a changed body was taken");
  }
}
console.log(`verified ${requests.length}`);
