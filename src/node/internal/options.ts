/** Checks options before anything is opened: what is wrong with them is an error with words, never an exception. */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Crypto from "node:crypto"
import * as Tls from "node:tls"
import {
  count,
  type Definition,
  definitionOf,
  duration,
  numberOf,
  wrongCount
} from "../../internal/limits/definition.ts"
import * as Policy from "../../Policy.ts"
import { tcpOptions } from "./stream.ts"

/** PEM text, as text or as the bytes of a file. */
export type Pem = string | Uint8Array

const policy = (field: keyof typeof Policy.Policy.fields, name: string = field): Definition => ({
  ...definitionOf(Policy.Policy.fields[field]),
  name
})

/** The options of a socket that are limits. One that a policy has too is the policy's, by the name that it has here. */
export const definitions = {
  keepAlive: policy("keepAlive"),
  openTimeout: policy("open", "openTimeout"),
  handshakeTimeout: policy("handshake", "handshakeTimeout"),
  noDelay: policy("noDelay"),
  maxFrame: policy("maxFrame"),
  linger: definitionOf(
    duration("linger", { default: "1s", zero: "destroys it at once" }).says(
      "How long a connection that we are done with waits for the peer to be done as well"
    )
  ),
  maxPending: definitionOf(
    count("maxPending", { default: 1024, minimum: 1 }).says(
      "The most connections in a TLS handshake, in an HTTP upgrade or not taken by a `run`, together"
    )
  ),
  backlog: definitionOf(
    count("backlog", { default: 511, minimum: 1 }).says(
      "The most connections that the kernel keeps and we did not accept yet",
      "The default is Node's; the kernel cuts it to `somaxconn`"
    )
  )
}

// the longest delay of a Node timer (2^31 - 1 ms, 24.8 days); a longer one would fire at once
export const longestTimer = 2_147_483_647

/** A limit of a policy as Node takes it: whole milliseconds, and 0 for none. */
export const limitOf = (duration: Duration.Duration): number => {
  const millis = Math.ceil(Duration.toMillis(duration))
  return millis > longestTimer ? 0 : millis
}

/**
 * Reads an option, or its default. A duration becomes milliseconds that a timer can sleep: everything longer, and what is
 * off, is 24.8 days.
 */
export const read = (
  name: Exclude<keyof typeof definitions, "noDelay">,
  given: Duration.Input | undefined
): Result.Result<number, string> => {
  const definition = definitions[name]
  const value = given ?? definition.default as Duration.Input
  if (definition.kind !== "duration") {
    const wrong = wrongCount(definition, value as number)
    return wrong === undefined ? Result.succeed(value as number) : Result.fail(wrong)
  }
  const read = Duration.fromInput(value)
  if (Option.isNone(read)) return Result.fail(`${name} is not a duration: ${String(value)}`)
  return Duration.toMillis(read.value) >= 0
    ? Result.succeed(Math.min(numberOf(definition, read.value), longestTimer))
    : Result.fail(`${name} is negative`)
}

/** Reads the options of TCP. Keep-alive that is off is 0 there. */
export const readTcp = (
  { keepAlive, noDelay = Policy.defaults.noDelay }: {
    readonly keepAlive?: Duration.Input | undefined
    readonly noDelay?: boolean | undefined
  }
): Result.Result<ReturnType<typeof tcpOptions>, string> =>
  Result.map(
    read("keepAlive", keepAlive),
    (millis) => tcpOptions(millis === longestTimer ? 0 : millis, noDelay)
  )

/** What is needed of certificates at either end. */
export interface TlsMaterial {
  readonly cert?: Pem | undefined
  readonly key?: Pem | Redacted.Redacted<Pem> | undefined
  readonly ca?: Pem | ReadonlyArray<Pem> | undefined
  readonly passphrase?: string | Redacted.Redacted<string> | undefined
}

const reveal = <A>(value: A | Redacted.Redacted<A>): A => Redacted.isRedacted(value) ? Redacted.value(value) : value
const buffer = (pem: Pem): Buffer => typeof pem === "string" ? Buffer.from(pem) : Buffer.from(pem)
const attempt = <A>(what: string, run: () => A): Result.Result<A, string> =>
  Result.try({
    try: run,
    catch: (cause) => `${what}: ${cause instanceof Error ? cause.message : String(cause)}`
  })

/** What `tls` takes: only the fields that were given. */
export interface TlsOptions {
  readonly cert?: Buffer
  readonly key?: Buffer
  readonly ca?: Array<Buffer>
  readonly passphrase?: string
}

/**
 * Checks certificates and keys.
 *
 * OpenSSL alone accepts a key of another kind than the certificate's (RSA and EC) and garbage as a `ca`, and only the
 * first client would find out: so each part is read by itself first.
 */
export const tlsOptions = (material: TlsMaterial): Result.Result<TlsOptions, string> =>
  Result.gen(function*() {
    if ((material.cert === undefined) !== (material.key === undefined)) {
      const missing = material.cert === undefined ? "`cert`" : "`key`"
      return yield* Result.fail(`a client certificate is \`cert\` and \`key\`, and ${missing} is missing`)
    }
    const cert = material.cert === undefined ? undefined : buffer(material.cert)
    const key = material.key === undefined ? undefined : buffer(reveal(material.key))
    const passphrase = material.passphrase === undefined ? undefined : reveal(material.passphrase)
    const ca = material.ca === undefined
      ? undefined
      : (typeof material.ca === "string" || material.ca instanceof Uint8Array ? [material.ca] : material.ca).map(buffer)
    for (const one of ca ?? []) {
      yield* attempt("`ca` cannot be read as a PEM certificate", () => new Crypto.X509Certificate(one))
    }
    if (cert !== undefined && key !== undefined) {
      const certificate = yield* attempt(
        "`cert` cannot be read as a PEM certificate",
        () => new Crypto.X509Certificate(cert)
      )
      const privateKey = yield* attempt(
        passphrase === undefined
          ? "`key` cannot be read as a PEM private key (an encrypted one needs its passphrase)"
          : "`key` cannot be read as a PEM private key with this `passphrase`",
        () => Crypto.createPrivateKey({ key, ...(passphrase === undefined ? {} : { passphrase }) })
      )
      if (!certificate.checkPrivateKey(privateKey)) {
        return yield* Result.fail("`key` does not belong to `cert`: they are not the two halves of one pair")
      }
    }
    const options: TlsOptions = {
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
      ...(ca === undefined ? {} : { ca }),
      ...(passphrase === undefined ? {} : { passphrase })
    }
    yield* attempt("the TLS settings cannot be used", () => Tls.createSecureContext(options))
    return options
  })
