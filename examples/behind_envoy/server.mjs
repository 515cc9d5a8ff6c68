// server.mjs: an MCP server that knows who is asking by the assertion that authsvc adds to each request.

import { createServer } from 'node:http';

import { toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import { createRemoteJWKSet, jwtVerify } from 'jose';

const RESOURCE = 'http://127.0.0.1:8080/mcp'; // as clients know this server: the assertion's audience
const ISSUER = 'http://127.0.0.1:50053'; // [assertions] issuer
const KEYS = createRemoteJWKSet(new URL('http://127.0.0.1:50053/.well-known/jwks.json'));

// A tool refuses without a caller: not every way here leads through a check.
function callerOf(authInfo, scope) {
  if (!authInfo) throw new Error('This tool needs a caller.');
  if (scope && !authInfo.scopes.includes(scope)) throw new Error(`This tool needs the scope ${scope}.`);
  return authInfo.extra.caller;
}

const mcp = createMcpHandler(({ authInfo }) => {
  const server = new McpServer({ name: 'behind-envoy', version: '1.0.0' });
  const text = (said) => ({ content: [{ type: 'text', text: said }] });
  server.registerTool('whoami', { description: 'Who is asking.' }, async () => {
    const { sub, roles } = callerOf(authInfo);
    return text(`${sub}: ${roles.join(', ')}`);
  });
  server.registerTool('publish', { description: 'Publish the notes.' }, async () => {
    callerOf(authInfo, 'notes.publish');
    return text('published');
  });
  return server;
});

async function serve(request) {
  const assertion = request.headers.get('x-authsvc-assertion');
  if (!assertion) return mcp.fetch(request); // a request without a caller: initialize, lists
  let caller;
  try {
    ({ payload: caller } = await jwtVerify(assertion, KEYS, {
      issuer: ISSUER,
      audience: RESOURCE,
      algorithms: ['ES256'],
      typ: 'authsvc-assertion+jwt',
      requiredClaims: ['sub', 'idp', 'exp'],
    }));
  } catch (error) {
    // No fault of the client: a 401 would send it for another token.
    console.error(`assertion: ${error.code ?? error}`);
    return new Response(null, { status: 503 });
  }
  // A subject is unique at its issuer: the key of a user is both, caller.idp and caller.sub.
  const scopes = caller.scope.split(' ').filter(Boolean);
  const authInfo = { token: '', clientId: caller.client_id ?? '', scopes, extra: { caller } };
  return mcp.fetch(request, { authInfo });
}

const server = createServer(toNodeHandler({ fetch: serve }));
// On loopback: Envoy alone reaches it.
server.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => {
  console.log(`Running on http://127.0.0.1:${server.address().port}`);
});
