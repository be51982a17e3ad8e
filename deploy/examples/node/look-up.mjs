// Looks numbers up over HTTP: look-up.mjs NUMBER... Needs Node.js 18 or newer, and no package.

import { readFileSync } from "node:fs";

const { CONTACTD_SERVER, CONTACTD_CA_FILE, CONTACTD_TOKEN_FILE, CONTACTD_AUTH_HEADER } = process.env;
const address = CONTACTD_SERVER || "http://127.0.0.1:50051";
const server = address.includes("://") ? address : `http${CONTACTD_CA_FILE ? "s" : ""}://${address}`;

const headers = { "Content-Type": "application/json" };
// The token that the daemon's operator gave to this program, if there are tokens.
if (CONTACTD_TOKEN_FILE) headers.Authorization = `Bearer ${readFileSync(CONTACTD_TOKEN_FILE, "utf8").trim()}`;

// A phone rings for some seconds; after two of them a name is too late.
const deadline = 2000;

async function lookUp(number) {
  const response = await fetch(`${server}/contactd.v1.ContactService/FindContact`, {
    method: "POST",
    headers: { ...headers, "Connect-Timeout-Ms": `${deadline}` },
    body: JSON.stringify({
      user: { id: "agent-7", platform: "example", region: "US" },
      authHeader: CONTACTD_AUTH_HEADER ?? "",
      phoneNumber: number,
      createOption: false,
    }),
    // A little later, so that an answer about a missed deadline arrives.
    signal: AbortSignal.timeout(deadline + 500),
  });
  const answer = await response.json();
  if (!response.ok) throw new LookUpError(answer);
  return answer;
}

// The reason, and the message for people. What only the programmer can mend is in the message of the status.
class LookUpError extends Error {
  constructor({ code, message, details = [] }) {
    const find = (type) => details.find((detail) => detail.type === type)?.debug;
    const reason = find("google.rpc.ErrorInfo")?.reason ?? code;
    const forProgrammers = /^(INVALID_REQUEST$|CALLER_)/.test(reason);
    super(forProgrammers ? message : (find("contactd.v1.ReturnMessage")?.message ?? message));
    this.reason = reason;
  }
}

// One contact with company, or the names of several to choose from, or why there is none.
function shown({ matchedContactInfo: contacts, returnMessage }) {
  if (contacts.length === 0) return returnMessage.message;
  const names = contacts.map(
    ({ name, matchQuality }) => name + (matchQuality === "MATCH_QUALITY_UNVERIFIED" ? " (unverified)" : ""));
  if (names.length > 1) return `${names.length} contacts: ${names.join("; ")}`;
  const { company } = contacts[0];
  return company ? `${names[0]}, ${company}` : names[0];
}

for (const number of process.argv.slice(2)) {
  try {
    console.log(`${number}: ${shown(await lookUp(number))}`);
  } catch (error) {
    // fetch says in `cause` why it failed.
    console.log(`${number}: failed: ${error.reason ?? error.cause?.code ?? error.name}: ${error.message}`);
    process.exitCode = 1;
  }
}
