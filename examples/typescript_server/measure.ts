// How many resolves a second: node measure.ts TOKEN. Unary calls and the stream take turns.

import { join } from 'node:path';

import { Authsvc, StreamingAuthsvc } from './authsvc.ts';

const [token] = process.argv.slice(2);
const RESOURCE = 'http://127.0.0.1:8011/mcp';
const RESOLVES = Number(process.env.RESOLVES ?? 2_000);
const IN_FLIGHT = 64;
const SESSIONS = 200;
const ROUNDS = Number(process.env.ROUNDS ?? 9);

const options = {
  target: process.env.AUTHSVC ?? '127.0.0.1:50051',
  protos: process.env.AUTHSVC_PROTOS ?? join(import.meta.dirname, '../../protos'),
  caFile: process.env.AUTHSVC_CA,
  serviceTokenFile: process.env.AUTHSVC_SERVICE_TOKEN,
};
const clients = { unary: new Authsvc(options), stream: new StreamingAuthsvc(options) };
const sessions: string[] = [];
for (let number = 0; number < SESSIONS; number++) {
  sessions.push((await clients.unary.createSession(RESOURCE, token!)).session!.id);
}

async function round(client: Authsvc): Promise<number> {
  let left = RESOLVES;
  const begun = performance.now();
  const worker = async () => {
    while (left-- > 0) {
      const sessionId = sessions[left % SESSIONS]!;
      const { session, principal } = await client.resolve({ resource: RESOURCE, token: token!, sessionId });
      if (session?.id !== sessionId || !principal) throw new Error('answered for another session');
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
  return performance.now() - begun;
}

const took: Record<string, number[]> = { unary: [], stream: [] };
for (let number = 0; number <= ROUNDS; number++) {
  for (const [name, client] of Object.entries(clients)) {
    const milliseconds = await round(client);
    if (number > 0) took[name]!.push(milliseconds); // the first warms up
  }
}
for (const [name, milliseconds] of Object.entries(took)) {
  const median = milliseconds.sort((a, b) => a - b)[Math.floor(ROUNDS / 2)]!;
  console.log(`${name}: ${RESOLVES} resolves in ${median.toFixed(0)} ms, ${((RESOLVES / median) * 1_000).toFixed(0)} a second`);
}
for (const client of Object.values(clients)) client.close();
