// Reads messages and says of each what Svix's and Standard Webhooks' own libraries make of it, with each secret.
import { Webhook as StandardWebhook } from "standardwebhooks";
import { Webhook as SvixWebhook } from "svix";

let input = "";
for await (const part of process.stdin) input += part;
const { secrets, messages } = JSON.parse(input);

function verdict(library, secret, names, { body, headers }) {
  const picked = Object.fromEntries(names.map((name) => [name, headers[name] ?? ""]));
  try {
    new library(secret).verify(body, picked);
    return "verified";
  } catch (error) {
    return error.message;
  }
}

const svix = ["svix-id", "svix-timestamp", "svix-signature"];
const standard = ["webhook-id", "webhook-timestamp", "webhook-signature"];
const verdicts = messages.map((message) =>
  secrets.map((secret) => [
    verdict(SvixWebhook, secret, svix, message),
    verdict(SvixWebhook, secret, standard, message),
    verdict(StandardWebhook, secret, standard, message),
  ]),
);
process.stdout.write(JSON.stringify(verdicts));
