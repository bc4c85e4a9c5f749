/** Checks certificates and keys before anything is opened: what is wrong with them is an error with words, never an exception. */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Crypto from "node:crypto"
import * as Tls from "node:tls"

/** PEM text, as text or as the bytes of a file. */
export type Pem = string | Uint8Array

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

// of a server that asks for certificates, sessions are resumed by it alone
const sessionIdContext = Crypto.createHash("sha1").update("holdfast").update(process.argv.join(" ")).digest("hex")
  .slice(0, 32)

/** The context of a server. */
export const serverContext = (options: TlsOptions): Tls.SecureContext =>
  Tls.createSecureContext({ ...options, sessionIdContext })
