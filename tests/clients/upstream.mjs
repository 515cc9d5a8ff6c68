// An MCP server behind a gateway: it believes x-authsvc-assertion, and nothing else of a request.
// Usage: node upstream.mjs GENERATION JWKS ISSUER RESOURCE, where GENERATION is v1, whose sessions the
// server keeps, or v2, which keeps none and serves both eras.
// Tools: whoami returns the claims; write needs a scope at the gateway; headers returns what came;
// hold reports progress and ends once release is called.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';

import { createRemoteJWKSet, jwtVerify } from 'jose';

const [generation, jwks, issuer, resource] = process.argv.slice(2);
const keys = createRemoteJWKSet(new URL(jwks));
const text = (value) => ({ content: [{ type: 'text', text: JSON.stringify(value) }] });

let release, released;
const rearm = () => (released = new Promise((resolve) => (release = resolve)));
rearm();

async function claims(assertion) {
  if (!assertion) return null;
  const how = { issuer, audience: resource, algorithms: ['ES256'], typ: 'authsvc-assertion+jwt' };
  const { payload } = await jwtVerify(assertion, keys, { ...how, requiredClaims: ['exp', 'sub', 'idp'] });
  return payload;
}

// headersOf and progress: how a generation of the SDK gives them to a tool.
function addTools(server, headersOf, progress) {
  const tool = (name, run) => server.registerTool(name, { description: name }, run);
  tool('whoami', async (context) => text(await claims(headersOf(context)['x-authsvc-assertion'])));
  tool('write', async () => text('written'));
  tool('headers', async (context) => text(Object.entries(headersOf(context))));
  tool('hold', async (context) => {
    const done = released;
    await progress(context);
    await done;
    return text('held');
  });
  tool('release', async () => {
    release();
    rearm();
    return text('released');
  });
  return server;
}

async function stateful() {
  const { McpServer } = await import('@modelcontextprotocol/sdk/server/mcp.js');
  const { StreamableHTTPServerTransport } = await import('@modelcontextprotocol/sdk/server/streamableHttp.js');
  const transports = new Map();

  const progress = ({ _meta, sendNotification }) => {
    const params = { progressToken: _meta.progressToken, progress: 1, total: 2 };
    return sendNotification({ method: 'notifications/progress', params });
  };

  async function opened() {
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => void transports.set(id, transport),
      onsessionclosed: (id) => void transports.delete(id),
    });
    const server = new McpServer({ name: 'upstream', version: '1' });
    await addTools(server, (extra) => extra.requestInfo.headers, progress).connect(transport);
    return transport;
  }

  return async (request, response) => {
    const body = request.method === 'POST' ? await json(request) : undefined;
    const named = request.headers['mcp-session-id'];
    const transport = named ? transports.get(named) : await opened();
    if (transport) await transport.handleRequest(request, response, body);
    else response.writeHead(404).end();
  };
}

async function stateless() {
  const { createMcpHandler, McpServer } = await import('@modelcontextprotocol/server');
  const { toNodeHandler } = await import('@modelcontextprotocol/node');

  const progress = ({ mcpReq }) => {
    const params = { progressToken: mcpReq._meta.progressToken, progress: 1, total: 2 };
    return mcpReq.notify({ method: 'notifications/progress', params });
  };

  const headersOf = ({ http }) => Object.fromEntries(http.req.headers);
  return toNodeHandler(
    createMcpHandler(() => addTools(new McpServer({ name: 'upstream', version: '1' }), headersOf, progress)),
  );
}

const handle = await (generation === 'v1' ? stateful() : stateless());
const server = createServer((request, response) => void handle(request, response));
server.listen(0, '127.0.0.1', () => {
  const address = `127.0.0.1:${server.address().port}`;
  console.error(JSON.stringify({ event: 'listening on', address }));
});
