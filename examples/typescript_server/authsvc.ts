// A client of authsvc. docs/other-languages.md explains it part by part.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import * as grpc from '@grpc/grpc-js';
import * as loader from '@grpc/proto-loader';

// --- Connecting -------------------------------------------------------------

export interface Options {
  target: string; // 'dns:///authsvc.internal:50051' for all addresses of a name, or 'unix:/run/authsvc.sock'
  protos: string; // the folder of the unpacked archive
  caFile?: string; // who signed authsvc's certificate; without it, a socket of this machine in the clear
  serviceTokenFile?: string; // this program's service token; it needs TLS
}

const CHANNEL: grpc.ChannelOptions = {
  // A proxy that the environment names would see bearer tokens.
  'grpc.enable_http_proxy': 0,
  // Finds a peer that is gone without closing. authsvc permits a ping every 10 s, and ends a
  // connection that pings more often with GOAWAY "too_many_pings".
  'grpc.keepalive_time_ms': 15_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.keepalive_permit_without_calls': 1,
  // authsvc closes a connection that has been idle for 60 s: close it first.
  'grpc.client_idle_timeout_ms': 20_000,
  // Back soon after a restart; the default backs off to two minutes.
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
  'grpc.service_config': JSON.stringify({
    loadBalancingConfig: [{ round_robin: {} }],
    methodConfig: [
      {
        // These two are idempotent. CreateSession is not: repeated, it makes a second session.
        name: ['ResolveSession', 'RevokeSession'].map((method) => ({ service: 'authsvc.v1.AuthService', method })),
        retryPolicy: {
          maxAttempts: 3,
          initialBackoff: '0.05s',
          maxBackoff: '0.5s',
          backoffMultiplier: 2,
          retryableStatusCodes: ['UNAVAILABLE', 'ABORTED'],
        },
      },
    ],
    // In the long run retries add at most a tenth to the load.
    retryThrottling: { maxTokens: 100, tokenRatio: 0.1 },
  }),
};

const THIS_MACHINE = /^(dns:\/\/\/)?(127\.0\.0\.1|localhost|\[::1\]):|^unix:/;

function channelCredentials({ target, caFile, serviceTokenFile }: Options): grpc.ChannelCredentials {
  if (!caFile) {
    if (serviceTokenFile || !THIS_MACHINE.test(target)) throw new Error('tokens need TLS: name caFile');
    return grpc.credentials.createInsecure();
  }
  const tls = grpc.credentials.createSsl(readFileSync(caFile));
  if (!serviceTokenFile) return tls;
  const service = grpc.credentials.createFromMetadataGenerator((_, done) => {
    const metadata = new grpc.Metadata();
    try {
      // Read for each call, as it is replaced while this program runs.
      metadata.set('authorization', `Bearer ${readFileSync(serviceTokenFile, 'utf8').trim()}`);
    } catch (error) {
      return done(error as Error);
    }
    done(null, metadata);
  });
  return grpc.credentials.combineChannelCredentials(tls, service);
}

// --- Messages ---------------------------------------------------------------

export interface ResolveRequest {
  sessionId?: string;
  token?: string;
  resource: string;
  create?: boolean;
  consistencyToken?: string;
}

export interface Timestamp {
  seconds: string;
  nanos: number;
}

export interface Actor {
  subject: string;
  issuer: string; // empty: the principal's
  clientId: string;
  actor: Actor | null; // before this one
}

export interface Principal {
  issuer: string;
  subject: string;
  clientId: string;
  scopes: string[];
  roles: string[];
  buckets: string[];
  permissions: string[];
  expireTime: Timestamp;
  claimsJson: Buffer;
  actor: Actor | null; // who acts for the subject; null: the subject
}

export interface Resolution {
  session: { id: string; state: string; revision: string; createTime: Timestamp; expireTime: Timestamp } | null;
  outcome: string;
  principal: Principal | null; // null: the request is unauthenticated
  credentials: Record<string, unknown> | null;
  consistencyToken: string;
}

interface Any {
  type_url: string;
  value: Buffer;
}

interface Status {
  code: number;
  message: string;
  details: Any[];
}

interface Entry {
  requestId: string;
  request: ResolveRequest;
  traceparent: string;
}

interface Batch {
  entries: Entry[];
  cancelledRequestIds: string[];
}

interface Answers {
  entries: { requestId: string; response: Resolution | null; error: Status | null }[];
}

type Unary<Q, A> = (
  request: Q,
  metadata: grpc.Metadata,
  options: grpc.CallOptions,
  done: (error: grpc.ServiceError | null, answer?: A) => void,
) => grpc.ClientUnaryCall;

interface Stub extends grpc.Client {
  ResolveSession: Unary<ResolveRequest, Resolution>;
  CreateSession: Unary<{ resource: string; token: string }, Resolution>;
  RevokeSession: Unary<{ sessionId: string }, object>;
  ResolveSessionStream: () => grpc.ClientDuplexStream<Batch, Answers>;
}

// --- Errors -----------------------------------------------------------------

export class AuthsvcError extends Error {
  readonly code: grpc.status;
  readonly reason: string; // docs/reference/reasons.md; stable, in contrast to the message
  readonly retryAfterMs: number | undefined;

  constructor(code: grpc.status, reason: string, message: string, retryAfterMs?: number) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.retryAfterMs = retryAfterMs;
  }
}

class Errors {
  readonly #types: loader.PackageDefinition;

  constructor(types: loader.PackageDefinition) {
    this.#types = types;
  }

  // Of a call: its trailers carry a google.rpc.Status, where authsvc sent the error.
  ofCall(error: grpc.ServiceError | grpc.StatusObject): AuthsvcError {
    const [sent] = error.metadata.get('grpc-status-details-bin');
    const details = Buffer.isBuffer(sent) ? this.#decode<Status>('google.rpc.Status', sent).details : [];
    return this.ofStatus({ code: error.code, message: error.details, details });
  }

  // Of an entry of a stream: the same status, in the entry.
  ofStatus({ code, message, details }: Status): AuthsvcError {
    let reason = code === grpc.status.RESOURCE_EXHAUSTED ? 'OVERLOADED' : 'SERVICE_UNAVAILABLE';
    let retryAfterMs: number | undefined;
    for (const { type_url, value } of details) {
      const name = type_url.slice(type_url.lastIndexOf('/') + 1);
      if (name === 'google.rpc.ErrorInfo') {
        const info = this.#decode<{ reason: string; domain: string }>(name, value);
        if (info.domain === 'authsvc') reason = info.reason;
      } else if (name === 'google.rpc.RetryInfo') {
        const { retryDelay } = this.#decode<{ retryDelay: Timestamp | null }>(name, value);
        if (retryDelay) retryAfterMs = Number(retryDelay.seconds) * 1_000 + retryDelay.nanos / 1e6;
      }
    }
    return new AuthsvcError(code, reason, message, retryAfterMs);
  }

  #decode<T>(name: string, bytes: Buffer): T {
    return (this.#types[name] as loader.MessageTypeDefinition<object, T & object>).deserialize(bytes);
  }
}

// --- Unary calls ------------------------------------------------------------

export interface CallOptions {
  timeoutMs?: number; // for all attempts together; authsvc stops work once it has passed
  traceparent?: string; // W3C Trace Context of the request that is being served
}

export class Authsvc {
  readonly stub: Stub;
  readonly errors: Errors;
  readonly written = new ConsistencyTokens();

  constructor(options: Options) {
    const types = loader.loadSync(['authsvc/v1/auth.proto', 'google/rpc/error_details.proto'], {
      includeDirs: [options.protos],
      defaults: true,
      enums: String,
      longs: String,
    });
    const { AuthService } = (grpc.loadPackageDefinition(types) as any).authsvc.v1;
    this.stub = new AuthService(options.target, channelCredentials(options), CHANNEL);
    this.errors = new Errors(types);
  }

  async resolve(request: ResolveRequest, options: CallOptions = {}): Promise<Resolution> {
    const sent = this.written.addTo(request);
    const { answer } = await this.#call(this.stub.ResolveSession, sent, options);
    this.written.keep(request, answer.consistencyToken);
    return answer;
  }

  // The session's id is the one to give to the client.
  async createSession(resource: string, token: string, options: CallOptions = {}): Promise<Resolution> {
    const { answer } = await this.#call(this.stub.CreateSession, { resource, token }, options);
    this.written.keep({ resource, sessionId: answer.session!.id }, answer.consistencyToken);
    return answer;
  }

  // Make sure first, with resolve, that the request for it comes from the session's owner.
  async revokeSession(resource: string, sessionId: string, options: CallOptions = {}): Promise<void> {
    const { trailers } = await this.#call(this.stub.RevokeSession, { sessionId }, options);
    const [token] = trailers.get('authsvc-consistency-token');
    if (token) this.written.keep({ resource, sessionId }, String(token), true);
  }

  close(): void {
    this.stub.close();
  }

  #call<Q, A>(method: Unary<Q, A>, request: Q, { timeoutMs = 1_000, traceparent }: CallOptions) {
    const metadata = new grpc.Metadata();
    if (traceparent) metadata.set('traceparent', traceparent);
    return new Promise<{ answer: A; trailers: grpc.Metadata }>((resolve, reject) => {
      let answer: A;
      const options = { deadline: Date.now() + timeoutMs };
      const call = method.call(this.stub, request, metadata, options, (error, received) => {
        if (error) reject(this.errors.ofCall(error));
        else answer = received!;
      });
      call.on('status', ({ code, metadata: trailers }) => {
        if (code === grpc.status.OK) resolve({ answer, trailers });
      });
    });
  }
}

// --- Read your writes -------------------------------------------------------

// A write is known to every replica within a second. Until then the session's next request carries
// the write's consistency token, and whichever replica answers it has the write.
class ConsistencyTokens {
  static readonly KEEP_MS = 2_000;
  static readonly MOST = 10_000;
  readonly #tokens = new Map<string, { token: string; until: number; ends: boolean }>();

  addTo(request: ResolveRequest): ResolveRequest {
    const kept = this.#tokens.get(key(request));
    const isRecent = kept !== undefined && kept.until > performance.now();
    return isRecent ? { ...request, consistencyToken: kept.token } : request;
  }

  keep(request: ResolveRequest, token: string, ends = false): void {
    if (!token) return;
    const now = performance.now();
    // In the order in which they were kept, so the oldest are first.
    for (const [oldest, { until }] of this.#tokens) {
      if (until > now && this.#tokens.size < ConsistencyTokens.MOST) break;
      this.#tokens.delete(oldest);
    }
    // A resolve that was in flight when the session ended does not replace that token.
    if (this.#tokens.get(key(request))?.ends && !ends) return;
    this.#tokens.delete(key(request));
    this.#tokens.set(key(request), { token, until: now + ConsistencyTokens.KEEP_MS, ends });
  }
}

function key({ sessionId, resource }: ResolveRequest): string {
  return sessionId || ` ${resource}`; // no session's id has a space
}

// --- One stream for many resolves -------------------------------------------

interface Waiting {
  deadline: NodeJS.Timeout;
  resolve: (answer: Resolution) => void;
  reject: (error: AuthsvcError) => void;
}

class Stream {
  static readonly MOST_ENTRIES = 256; // of a batch; authsvc rejects more
  static readonly MOST_CHARACTERS = 512 * 1024; // of the tokens of a batch; authsvc accepts 1 MiB
  ended = false;
  readonly #call: grpc.ClientDuplexStream<Batch, Answers>;
  readonly #errors: Errors;
  readonly #waiting = new Map<string, Waiting>();
  readonly #outbox: Entry[] = [];
  #cancelled: string[] = [];
  #lastId = 0;
  #writing = false;

  constructor({ stub, errors }: Authsvc) {
    this.#errors = errors;
    this.#call = stub.ResolveSessionStream();
    this.#call.on('data', ({ entries }: Answers) => entries.forEach((entry) => this.#answered(entry)));
    this.#call.on('error', () => {}); // "status" has it, too, and comes in any case
    this.#call.on('status', (status) => this.#end(status));
  }

  ask(request: ResolveRequest, timeoutMs: number, traceparent: string): Promise<Resolution> {
    const requestId = String(++this.#lastId);
    const answer = new Promise<Resolution>((resolve, reject) => {
      const deadline = setTimeout(() => this.#timeOut(requestId), timeoutMs);
      this.#waiting.set(requestId, { deadline, resolve, reject });
    });
    this.#outbox.push({ requestId, request, traceparent });
    // What else this turn of the event loop asks goes into the same batch.
    setImmediate(() => this.#write());
    return answer;
  }

  cancel(): void {
    this.#call.cancel();
  }

  // One write at a time: what queues meanwhile is the next batch.
  #write(): void {
    if (this.#writing || this.ended || !(this.#outbox.length || this.#cancelled.length)) return;
    const entries: Entry[] = [];
    let characters = 0;
    while (this.#outbox.length && entries.length < Stream.MOST_ENTRIES && characters < Stream.MOST_CHARACTERS) {
      const entry = this.#outbox.shift()!;
      if (!this.#waiting.has(entry.requestId)) continue;
      entries.push(entry);
      characters += entry.request.token?.length ?? 0;
    }
    const cancelledRequestIds = this.#cancelled;
    this.#cancelled = [];
    this.#writing = true;
    this.#call.write({ entries, cancelledRequestIds }, () => {
      this.#writing = false;
      this.#write();
    });
  }

  #answered({ requestId, response, error }: Answers['entries'][number]): void {
    const waiting = this.#take(requestId);
    if (!waiting) return; // no longer waited for
    if (error) waiting.reject(this.#errors.ofStatus(error));
    else waiting.resolve(response!);
  }

  #timeOut(requestId: string): void {
    this.#cancelled.push(requestId);
    this.#take(requestId)?.reject(
      new AuthsvcError(grpc.status.DEADLINE_EXCEEDED, 'SERVICE_UNAVAILABLE', 'no answer in time'),
    );
    this.#write();
  }

  // Also with OK, when authsvc stops: what has no answer then may be sent again.
  #end(status: grpc.StatusObject): void {
    this.ended = true;
    const isOk = status.code === grpc.status.OK;
    const error = this.#errors.ofCall(isOk ? { ...status, code: grpc.status.UNAVAILABLE } : status);
    for (const requestId of [...this.#waiting.keys()]) this.#take(requestId)?.reject(error);
  }

  #take(requestId: string): Waiting | undefined {
    const waiting = this.#waiting.get(requestId);
    this.#waiting.delete(requestId);
    clearTimeout(waiting?.deadline);
    return waiting;
  }
}

export class StreamingAuthsvc extends Authsvc {
  static readonly ATTEMPTS = 3;
  #stream: Stream | undefined;

  override async resolve(request: ResolveRequest, options: CallOptions = {}): Promise<Resolution> {
    const { timeoutMs = 1_000, traceparent = '' } = options;
    const deadline = performance.now() + timeoutMs;
    for (let attempt = 1; ; attempt++) {
      if (!this.#stream || this.#stream.ended) this.#stream = new Stream(this);
      try {
        const left = deadline - performance.now();
        const answer = await this.#stream.ask(this.written.addTo(request), left, traceparent);
        this.written.keep(request, answer.consistencyToken);
        return answer;
      } catch (error) {
        const pause = Math.random() * 100 * attempt;
        const mayRepeat = isTransient(error) && attempt < StreamingAuthsvc.ATTEMPTS;
        if (!mayRepeat || performance.now() + pause >= deadline) throw error;
        await sleep(pause);
      }
    }
  }

  // Rejects what has no answer yet.
  override close(): void {
    this.#stream?.cancel();
    super.close();
  }
}

function isTransient(error: unknown): boolean {
  const codes = [grpc.status.UNAVAILABLE, grpc.status.ABORTED];
  return error instanceof AuthsvcError && codes.includes(error.code);
}
