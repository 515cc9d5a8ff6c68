// What a web app does: MCP over plain fetch, from a page of another origin.

const SESSIONS = '2025-11-25';
const TIMEOUT_MS = 120_000;

const bounded = (url, init) => fetch(url, { ...init, signal: AbortSignal.timeout(TIMEOUT_MS) });

window.post = async (url, method, params, { token, session, version = SESSIONS } = {}) => {
  const headers = {
    'Content-Type': 'application/json',
    Accept: 'application/json, text/event-stream',
    'MCP-Protocol-Version': version,
  };
  if (session) headers['Mcp-Session-Id'] = session;
  if (token) headers.Authorization = `Bearer ${token}`;
  if (version !== SESSIONS) {
    headers['Mcp-Method'] = method;
    if (params.name) headers['Mcp-Name'] = params.name;
    if (params.arguments?.bucket) headers['Mcp-Param-Bucket'] = params.arguments.bucket;
    params._meta = {
      'io.modelcontextprotocol/protocolVersion': version,
      'io.modelcontextprotocol/clientInfo': { name: 'page', version: '1' },
      'io.modelcontextprotocol/clientCapabilities': {},
    };
  }
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
  const response = await bounded(url, { method: 'POST', headers, body });
  return {
    status: response.status,
    session: response.headers.get('Mcp-Session-Id'),
    challenge: response.headers.get('WWW-Authenticate'),
    body: await response.json(),
  };
};

window.read = async (url) => (await bounded(url)).json();

window.end = async (url, { token, session }) => {
  const headers = { Authorization: `Bearer ${token}`, 'Mcp-Session-Id': session };
  return (await bounded(url, { method: 'DELETE', headers })).status;
};

// Without a preflight: what any page can make a browser send.
window.force = async (url) => {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' });
  await bounded(url, { method: 'POST', mode: 'no-cors', body });
};
