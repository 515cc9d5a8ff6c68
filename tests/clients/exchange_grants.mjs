// Grants that oidc-provider leaves to its users: token exchange (RFC 8693), identity assertions
// (draft-ietf-oauth-identity-assertion-authz-grant) and JWT bearer grants (RFC 7523).

import { randomUUID } from 'node:crypto';
import { errors } from 'oidc-provider';
import { SignJWT, createLocalJWKSet, createRemoteJWKSet, importJWK, jwtVerify } from 'jose';

const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const TYPE = 'urn:ietf:params:oauth:token-type:';
const ID_JAG = 'oauth-id-jag+jwt';
const TYPES = ['access_token', 'jwt'].map((name) => TYPE + name);

// address: the provider's issuer. signingKeys: its keys, private; the first one signs.
// trusted: other issuers, whose identity assertions are accepted.
// resourceServer: (ctx, indicator) => the resource server's data, or throws.
export function registerExchangeGrants(provider, { address, signingKeys, trusted, resourceServer }) {
  const own = createLocalJWKSet({
    keys: signingKeys.map(({ kty, crv, x, y, n, e, kid, alg }) => ({ kty, crv, x, y, n, e, kid, alg })),
  });

  // The claims of one of this provider's access tokens.
  async function subject(token) {
    const found = await provider.AccessToken.find(token);
    if (found) return { sub: found.accountId, scope: found.scope };
    try {
      return (await jwtVerify(token, own, { issuer: address, typ: 'at+jwt' })).payload;
    } catch {
      throw new errors.InvalidGrant('the subject token is not valid');
    }
  }

  // The claims of an assertion: of another issuer an ID-JAG for this client, else an access token.
  async function asserted(ctx, assertion) {
    const issuer = issuerOf(assertion);
    if (issuer === address) return subject(assertion);
    if (!trusted.includes(issuer)) throw new errors.InvalidGrant('the issuer is not trusted');
    const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));
    let claims;
    try {
      const options = { issuer, audience: address, typ: ID_JAG };
      claims = (await jwtVerify(assertion, keys, options)).payload;
    } catch {
      throw new errors.InvalidGrant('the assertion is not valid');
    }
    if (claims.client_id !== ctx.oidc.client.clientId) throw new errors.InvalidGrant('client_id');
    return claims;
  }

  async function issue(ctx, { sub, resource, scope, actor, gty, more }) {
    if (!resource) throw new errors.InvalidTarget();
    const server = new provider.ResourceServer(resource, await resourceServer(ctx, resource));
    const token = new provider.AccessToken({ accountId: sub, client: ctx.oidc.client, gty });
    token.resourceServer = server;
    token.scope = (scope ?? '').split(' ').filter((it) => server.scopes.has(it)).join(' ');
    ctx.actor = actor;
    ctx.body = {
      access_token: await token.save(),
      token_type: 'Bearer',
      expires_in: token.expiration,
      ...more,
    };
  }

  async function exchange(ctx) {
    const { client, params } = ctx.oidc;
    if (!TYPES.includes(params.subject_token_type)) throw new errors.InvalidRequest('type');
    const { sub } = await subject(params.subject_token);
    const actor = params.actor_token ? (await subject(params.actor_token)).sub : client.clientId;
    if (params.requested_token_type === `${TYPE}id-jag`) {
      await assertion(ctx, sub);
      return;
    }
    const more = { issued_token_type: `${TYPE}access_token` };
    const { resource, scope } = params;
    await issue(ctx, { sub, resource, scope, actor, gty: 'token_exchange', more });
  }

  async function assertion(ctx, sub) {
    const { client, params } = ctx.oidc;
    const { resource, scope } = params;
    const [signer] = signingKeys;
    ctx.body = {
      access_token: await new SignJWT({ client_id: client.clientId, resource, scope })
        .setProtectedHeader({ alg: signer.alg, kid: signer.kid, typ: ID_JAG })
        .setIssuer(address)
        .setSubject(sub)
        .setAudience(params.audience)
        .setJti(randomUUID())
        .setIssuedAt()
        .setExpirationTime('5m')
        .sign(await importJWK(signer)),
      issued_token_type: `${TYPE}id-jag`,
      token_type: 'N_A',
      expires_in: 300,
      scope,
    };
  }

  async function bearer(ctx) {
    const { params } = ctx.oidc;
    const claims = await asserted(ctx, params.assertion);
    const resource = params.resource ?? claims.resource;
    const scope = params.scope ?? claims.scope;
    await issue(ctx, { sub: claims.sub, resource, scope, gty: 'jwt_bearer' });
  }

  provider.registerGrantType(TOKEN_EXCHANGE, exchange, [
    'subject_token', 'subject_token_type', 'actor_token', 'actor_token_type',
    'requested_token_type', 'audience', 'resource', 'scope',
  ]);
  provider.registerGrantType(JWT_BEARER, bearer, ['assertion', 'resource', 'scope']);
}

function issuerOf(jwt) {
  try {
    return JSON.parse(Buffer.from(jwt.split('.')[1], 'base64url')).iss;
  } catch {
    throw new errors.InvalidGrant('the assertion is no JWT');
  }
}
