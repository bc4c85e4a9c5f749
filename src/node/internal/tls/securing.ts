/** The contexts of a listener: what it secures connections with, renewed when its certificates are. */
import * as Result from "effect/Result"
import * as Tls from "node:tls"
import type { Securing } from "./handshakes.ts"
import { sessionIdContext, type TlsMaterial, type TlsOptions, tlsOptions } from "./material.ts"

/** The lowest version of TLS that an end speaks. */
export type MinVersion = "TLSv1.2" | "TLSv1.3"

/** Certificates that were read and checked, and those for other names. */
export interface Checked {
  readonly own: TlsOptions
  /** By names in lower case; `*.` stands for one label. */
  readonly names: ReadonlyMap<string, TlsOptions>
}

/** What holds whatever the certificates are. */
export interface Fixed {
  readonly minVersion: MinVersion | undefined
  readonly alpn: ReadonlyArray<string> | undefined
}

const wildcard = (name: string): string => name.replace(/^[^.]*/, "*")

const build = ({ names, own }: Checked, { alpn, minVersion }: Fixed): Securing => {
  const contextFor = (options: TlsOptions): Tls.SecureContext =>
    Tls.createSecureContext({ ...options, sessionIdContext, ...(minVersion === undefined ? {} : { minVersion }) })
  const contexts = new Map(
    Array.from(
      names,
      ([name, options]) => [name, contextFor({ ...options, ...(own.ca === undefined ? {} : { ca: own.ca }) })]
    )
  )
  return {
    context: contextFor(own),
    requestCert: own.ca !== undefined,
    contextOf: names.size === 0 ? undefined : (name) => contexts.get(name) ?? contexts.get(wildcard(name)),
    alpn
  }
}

/** How the next connection is secured: made anew where the certificates have changed. */
const securing = (current: () => Checked, fixed: Fixed): () => Securing => {
  let of = current()
  let built = build(of, fixed)
  return () => {
    const now = current()
    if (now !== of) {
      built = build(now, fixed)
      of = now
    }
    return built
  }
}

/** What a server is told of TLS. */
export interface Given extends TlsMaterial {
  /** A value of `Certificates`. */
  readonly certificates?: { readonly "~holdfast/node/Certificates": () => unknown } | undefined
  readonly minVersion?: MinVersion | undefined
}

/** What secures connections, now and after each renewal. */
const certificatesOf = (
  scheme: string,
  { ca, cert, certificates, key, passphrase }: Given
): Result.Result<() => Checked, string> => {
  if (certificates !== undefined) {
    return [ca, cert, key, passphrase].every((it) => it === undefined)
      ? Result.succeed(certificates["~holdfast/node/Certificates"] as () => Checked)
      : Result.fail("`certificates` are in place of `cert`, `key`, `ca` and `passphrase`")
  }
  if (cert === undefined || key === undefined) {
    const missing = cert === undefined ? key === undefined ? "both are" : "`cert` is" : "`key` is"
    return Result.fail(`${scheme} needs the options \`cert\` and \`key\`, and ${missing} missing`)
  }
  return Result.map(tlsOptions({ ca, cert, key, passphrase }), (own) => {
    const checked: Checked = { own, names: new Map() }
    return () => checked
  })
}

/** Reads the options of a server; the failure is what is wrong with them. `scheme` is `tls://`. */
export const securingOf = (
  scheme: string,
  given: Given,
  alpn: ReadonlyArray<string> | undefined
): Result.Result<() => Securing, string> =>
  Result.map(certificatesOf(scheme, given), (current) => securing(current, { minVersion: given.minVersion, alpn }))
