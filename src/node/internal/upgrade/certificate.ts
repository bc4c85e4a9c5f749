/** The certificate of a client, read into what a program decides by. */
import type { X509Certificate } from "node:crypto"
import type * as Net from "node:net"
import type * as Tls from "node:tls"
import type { Transport } from "../../../internal/transport/transport.ts"

/**
 * A certificate that a peer showed, and that one of the authorities of the option `ca` signed.
 *
 * @category models
 * @since 0.1.0
 */
export interface Certificate {
  /** Whom it names, by attribute: `{ O: ["Example"], CN: ["device-7"] }`. */
  readonly subject: Readonly<Record<string, ReadonlyArray<string>>>
  /** Who signed it, as `subject`. */
  readonly issuer: Readonly<Record<string, ReadonlyArray<string>>>
  /** The alternative names (RFC 5280, 4.2.1.6) as Node tells them: `DNS:a.example`, `URI:spiffe://b/c`, `IP Address:::1`. */
  readonly alternativeNames: ReadonlyArray<string>
  /** SHA-256 of the certificate, as `AB:CD:...`. */
  readonly fingerprint: string
  readonly serialNumber: string
  readonly validFrom: Date
  readonly validTo: Date
  /** As DER. */
  readonly raw: Uint8Array
}

/** `O=Example\nCN=device-7`; an attribute may come twice. */
const attributes = (text: string): Readonly<Record<string, ReadonlyArray<string>>> => {
  const found: Record<string, Array<string>> = Object.create(null)
  for (const line of text.split("\n")) {
    const at = line.indexOf("=")
    // Node escapes what could be taken for another line
    if (at > 0) (found[line.slice(0, at)] ??= []).push(line.slice(at + 1))
  }
  return found
}

/** Names are separated by `, `; Node writes one that has a comma or a quote in it as JSON. */
const names = (text: string | undefined): ReadonlyArray<string> =>
  Array.from(
    (text ?? "").matchAll(/([^:,"]+):("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)/g),
    ([, kind, name]) => `${kind}:${name.startsWith("\"") ? JSON.parse(name) : name}`
  )

export const certificateOf = (certificate: X509Certificate | undefined): Certificate | undefined =>
  certificate === undefined ? undefined : {
    subject: attributes(certificate.subject),
    issuer: attributes(certificate.issuer),
    alternativeNames: names(certificate.subjectAltName),
    fingerprint: certificate.fingerprint256,
    serialNumber: certificate.serialNumber,
    validFrom: new Date(certificate.validFrom),
    validTo: new Date(certificate.validTo),
    raw: certificate.raw
  }

/** The certificate of the client of an accepted connection. */
export const clientCertificate = (conn: Net.Socket | Tls.TLSSocket): Certificate | undefined =>
  "getPeerX509Certificate" in conn && conn.authorized ? certificateOf(conn.getPeerX509Certificate()) : undefined

/** Whom the certificate of a client names; none is asked for without `ca`. */
export const identityOf = (conn: Net.Socket | Tls.TLSSocket): Transport["identity"] => {
  const certificate = clientCertificate(conn)
  if (certificate === undefined) return undefined
  const { alternativeNames, fingerprint, subject } = certificate
  return { subject, alternativeNames, fingerprint }
}
