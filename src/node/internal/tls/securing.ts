/** The contexts of a listener: what it secures connections with, renewed when its certificates are. */
import * as Tls from "node:tls"
import type { Securing } from "./handshakes.ts"
import { sessionIdContext, type TlsOptions } from "./material.ts"

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
export const securing = (current: () => Checked, fixed: Fixed): () => Securing => {
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
