// An MCP server whose every request authsvc resolves: by the session and the token of that request.

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

import { status } from '@grpc/grpc-js';
import { toNodeHandler } from '@modelcontextprotocol/node';
import {
  createMcpHandler,
  getOAuthProtectedResourceMetadataUrl,
  hostHeaderValidationResponse,
  isInitializeRequest,
  localhostAllowedHostnames,
  localhostAllowedOrigins,
  McpServer,
  originValidationResponse,
} from '@modelcontextprotocol/server';

import { AuthsvcError, StreamingAuthsvc, type Principal, type Resolution } from './authsvc.ts';

const RESOURCE = 'http://127.0.0.1:8011/mcp';
const ISSUERS = ['https://idp.example'];
const METADATA_URL = getOAuthProtectedResourceMetadataUrl(new URL(RESOURCE));
const MAX_BODY_BYTES = 1_048_576; // read before the token is verified
const OPEN = ['initialize', 'notifications/initialized', 'ping', 'server/discover', 'tools/list'];

const { AUTHSVC, AUTHSVC_PROTOS, AUTHSVC_CA, AUTHSVC_SERVICE_TOKEN, PORT = '8011' } = process.env;
const target = AUTHSVC ?? '127.0.0.1:50051';
const authsvc = new StreamingAuthsvc({
  target,
  protos: AUTHSVC_PROTOS ?? join(import.meta.dirname, '../../protos'),
  caFile: AUTHSVC_CA,
  serviceTokenFile: AUTHSVC_SERVICE_TOKEN,
});

// --- The server: nothing in it knows of authsvc -----------------------------

const mcp = createMcpHandler(
  ({ authInfo }) => {
    const principal = authInfo?.extra?.principal as Principal | undefined;
    const server = new McpServer({ name: 'typescript-example', version: '1.0.0' });
    server.registerTool('whoami', { description: 'Who is asking.' }, async () => {
      if (!principal) throw new Error('a call needs a token');
      return { content: [{ type: 'text', text: `${principal.subject}: ${principal.roles.join(', ')}` }] };
    });
    return server;
  },
  // A stream of events would outlive the token that opened it.
  { maxSubscriptions: 0 },
);

// --- In front of it: who is asking, on each request -------------------------

async function serve(request: Request): Promise<Response> {
  const foreign =
    hostHeaderValidationResponse(request, localhostAllowedHostnames()) ??
    originValidationResponse(request, localhostAllowedOrigins());
  if (foreign) return foreign;
  const { pathname } = new URL(request.url);
  if (pathname === new URL(METADATA_URL).pathname) {
    return Response.json({ resource: RESOURCE, authorization_servers: ISSUERS, bearer_methods_supported: ['header'] });
  }
  if (pathname !== new URL(RESOURCE).pathname) return new Response(null, { status: 404 });
  try {
    return await authenticated(request);
  } catch (error) {
    if (error instanceof AuthsvcError) return refused(error, sessionOf(request) !== '');
    throw error;
  }
}

async function authenticated(request: Request): Promise<Response> {
  const token = /^Bearer +([\w.~+/-]+=*)$/i.exec(request.headers.get('authorization') ?? '')?.[1] ?? '';
  const context = { traceparent: request.headers.get('traceparent') ?? '' };
  const sessionId = sessionOf(request);
  let parsedBody: any;
  if (request.method === 'POST') {
    try {
      parsedBody = await request.json();
    } catch {
      return refusal(400, 'The body is not JSON.');
    }
  }
  if (!token && !OPEN.includes(parsedBody?.method)) return unauthenticated();
  if (!sessionId && isInitializeRequest(parsedBody)) {
    const created = await authsvc.createSession(RESOURCE, token, context);
    const response = await answer(request, parsedBody, created);
    if (response.ok) response.headers.set('Mcp-Session-Id', created.session!.id);
    return response;
  }
  const resolution = await authsvc.resolve({ resource: RESOURCE, sessionId, token }, context);
  if (request.method !== 'DELETE') return answer(request, parsedBody, resolution);
  if (!sessionId) return new Response(null, { status: 400 });
  await authsvc.revokeSession(RESOURCE, sessionId, context); // it is this caller's, as resolve has shown
  return new Response(null, { status: 204 });
}

function answer(request: Request, parsedBody: unknown, { principal }: Resolution): Promise<Response> {
  if (!principal) return mcp.fetch(request, { parsedBody });
  // The token stays here: what the tools need is the principal.
  const { clientId, scopes } = principal;
  return mcp.fetch(request, { parsedBody, authInfo: { token: '', clientId, scopes, extra: { principal } } });
}

function sessionOf(request: Request): string {
  return request.headers.get('mcp-session-id') ?? '';
}

// --- What a client is answered where authsvc says no ------------------------

function unauthenticated(error = ''): Response {
  const challenge = `Bearer ${error}resource_metadata="${METADATA_URL}"`;
  return refusal(401, error ? 'The access token is not valid.' : 'This request needs an access token.', {
    'WWW-Authenticate': challenge,
  });
}

function refused(error: AuthsvcError, inSession: boolean): Response {
  const concernsSession = error.reason.startsWith('SESSION_') && error.reason !== 'SESSION_LIMIT';
  // One answer for every session that is not the caller's: it does not tell whether one exists.
  if (concernsSession && inSession) return refusal(404, 'There is no such session.');
  if (concernsSession || error.code === status.UNAUTHENTICATED) return unauthenticated('error="invalid_token", ');
  // What the operator should know, and not the client.
  console.error(`authsvc at ${target}: ${error.reason}: ${error.message}`);
  const retry = { 'Retry-After': String(Math.ceil((error.retryAfterMs ?? 1_000) / 1_000)) };
  if (error.code === status.PERMISSION_DENIED) return refusal(403, error.message);
  if (error.code === status.INVALID_ARGUMENT) return refusal(400, error.message);
  if (error.code === status.RESOURCE_EXHAUSTED) return refusal(429, error.message, retry);
  return refusal(503, 'The service is temporarily unavailable.', retry);
}

function refusal(httpStatus: number, message: string, headers: Record<string, string> = {}): Response {
  const body = { jsonrpc: '2.0', id: null, error: { code: httpStatus, message } };
  return Response.json(body, { status: httpStatus, headers: { 'Cache-Control': 'no-store', ...headers } });
}

// --- Serving ----------------------------------------------------------------

const handler = toNodeHandler({ fetch: serve }, { maxRequestBodySize: MAX_BODY_BYTES, onerror: console.error });
const server = createServer((request, response) => void handler(request, response));
server.listen(Number(PORT), '127.0.0.1', () => {
  console.log(`Running on http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
process.once('SIGTERM', () => {
  server.close(() => {
    authsvc.close();
    process.exit(); // grpc-js would wait for a handshake that authsvc does not answer
  });
  server.closeIdleConnections();
});
