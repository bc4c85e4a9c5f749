/** Tells a certificate that is not accepted from other errors of TLS, at both ends. */
import type { Duplex } from "node:stream"
import type * as Tls from "node:tls"
import * as ConnectionError from "../../../ConnectionError.ts"
import { causeCode, causeText } from "../../../internal/reasons/text.ts"
import { Meaning } from "../stream/duplex.ts"

type Problem = ConnectionError.CertificateRefused["problem"]

// what OpenSSL finds wrong (X509_V_ERR_*, without the prefix), and Node with the name
const byCode: ReadonlyMap<string, Problem> = new Map<string, Problem>([
  ...[
    "CERT_UNTRUSTED",
    "CERT_SIGNATURE_FAILURE",
    "DEPTH_ZERO_SELF_SIGNED_CERT",
    "SELF_SIGNED_CERT_IN_CHAIN",
    "UNABLE_TO_GET_ISSUER_CERT",
    "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
    "UNABLE_TO_VERIFY_LEAF_SIGNATURE"
  ].map((code) => [code, "untrusted"] as const),
  ["CERT_HAS_EXPIRED", "expired"],
  ["CERT_NOT_YET_VALID", "notYetValid"],
  ["CERT_REVOKED", "revoked"],
  ["HOSTNAME_MISMATCH", "wrongName"],
  ["ERR_TLS_CERT_ALTNAME_INVALID", "wrongName"],
  ["ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE", "missing"],
  ...[
    "CERT_CHAIN_TOO_LONG",
    "CERT_REJECTED",
    "ERROR_IN_CERT_NOT_AFTER_FIELD",
    "ERROR_IN_CERT_NOT_BEFORE_FIELD",
    "INVALID_CA",
    "INVALID_PURPOSE",
    "PATH_LENGTH_EXCEEDED",
    "UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY",
    "UNABLE_TO_DECRYPT_CERT_SIGNATURE",
    "UNABLE_TO_GET_CRL"
  ].map((code) => [code, "other"] as const)
])

// alerts that are about certificates alone (RFC 8446, 6.2): bad, unsupported, revoked, expired, unknown, unknown authority, access
// denied, required
const byAlert: ReadonlyMap<number, Problem> = new Map([
  [42, "other"],
  [43, "other"],
  [44, "revoked"],
  [45, "expired"],
  [46, "other"],
  [48, "untrusted"],
  [49, "other"],
  [116, "missing"]
])

// what ends of other kinds say instead when they asked for a certificate: unexpected message, bad record, failed handshake, failed
// decryption. TLS 1.2 has no alert for a missing one
const inPlace: ReadonlySet<number> = new Set([10, 20, 40, 51])

const alertOf = (cause: unknown): number => Number(/\bSSL alert number (\d+)/.exec(causeText(cause))?.[1] ?? NaN)

/** What this end knows of its own certificate. */
interface Ours {
  readonly asked: boolean
  readonly shown: boolean
}

/** Why a certificate of the peer is not accepted. */
export const refusedHere = (cause: unknown): ConnectionError.ConnectionError | undefined => {
  const problem = byCode.get(causeCode(cause) ?? "")
  return problem === undefined
    ? undefined
    : ConnectionError.make(new ConnectionError.CertificateRefused({ by: "local", problem, cause }))
}

/** Why the peer does not accept ours. */
const refusedThere = (cause: unknown, { asked, shown }: Ours): ConnectionError.ConnectionError | undefined => {
  const alert = alertOf(cause)
  const problem = byAlert.get(alert) ?? (asked && inPlace.has(alert) ? "other" : undefined)
  if (problem === undefined) return undefined
  return ConnectionError.make(
    new ConnectionError.CertificateRefused({ by: "peer", problem: asked && !shown ? "missing" : problem, cause })
  )
}

/**
 * Whether a server has asked for our certificate: only then it has told which signatures it knows (RFC 8446, 4.3.2; RFC 5246,
 * 7.4.4). Empty once the connection is gone.
 */
export const isAsked = (conn: Tls.TLSSocket): boolean => (conn.getSharedSigalgs() ?? []).length > 0

const isShown = (conn: Tls.TLSSocket): boolean => Object.keys(conn.getCertificate() ?? {}).length > 0

/** The peer has said something, so it has accepted what we showed. */
const hasAnswered = (conn: Duplex): boolean => conn.readableDidRead || conn.readableLength > 0

/** From now on the errors of a connection of ours tell which of them are refusals. */
export const watchDialled = (conn: Tls.TLSSocket): void => {
  let ours: Ours = { asked: false, shown: false }
  const look = (): void => {
    const asked = isAsked(conn)
    if (asked) ours = { asked, shown: isShown(conn) }
  }
  // at its end a connection knows nothing any more
  conn.once("secureConnect", look)
  conn.prependOnceListener("error", (cause) => {
    look()
    // after the handshake Node tells of an alert, and goes on
    conn.destroy(cause)
  })
  Object.assign(conn, {
    [Meaning]: (cause: unknown) => refusedHere(cause) ?? (hasAnswered(conn) ? undefined : refusedThere(cause, ours))
  })
}

/** What an error of an accepted connection means, in its handshake or before the first byte of the client. */
export const meaningOfAccepted = (cause: unknown): ConnectionError.ConnectionError | undefined =>
  refusedHere(cause) ?? refusedThere(cause, { asked: false, shown: true })

function whenAccepted(this: Duplex, cause: unknown): ConnectionError.ConnectionError | undefined {
  return hasAnswered(this) ? undefined : meaningOfAccepted(cause)
}

/** As `watchDialled`, of a connection that was accepted: the same function for all of them. */
export const watchAccepted = (conn: Tls.TLSSocket): void => void Object.assign(conn, { [Meaning]: whenAccepted })
