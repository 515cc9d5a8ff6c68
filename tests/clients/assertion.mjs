// Verifies assertions as an MCP server in TypeScript would, with jose.
// node assertion.mjs JWKS_URL ISSUER ASSERTIONS: takes a JSON array of {assertion, audience}, and
// prints for each its claims, or the code of jose's error. One cache of keys serves all of them.
import { createRemoteJWKSet, jwtVerify } from "jose";

const [url, issuer, assertions] = process.argv.slice(2);
const keys = createRemoteJWKSet(new URL(url));

const results = [];
for (const { assertion, audience } of JSON.parse(assertions)) {
  try {
    const { payload } = await jwtVerify(assertion, keys, {
      issuer,
      audience,
      typ: "authsvc-assertion+jwt",
      algorithms: ["ES256"],
    });
    results.push({ claims: payload });
  } catch (error) {
    results.push({ error: error.code });
  }
}
console.log(JSON.stringify(results));
