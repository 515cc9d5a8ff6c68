// Both generations of the TypeScript SDK, by the same names.

export async function loadSdk(generation) {
  if (generation === 'v2') return import('@modelcontextprotocol/client');
  return {
    ...(await import('@modelcontextprotocol/sdk/client/index.js')),
    ...(await import('@modelcontextprotocol/sdk/client/streamableHttp.js')),
  };
}

// Options of a client; the first generation, which knows one era alone, ignores them.
export function negotiation(mode) {
  return { versionNegotiation: { mode: ['legacy', 'auto'].includes(mode) ? mode : { pin: mode } } };
}
