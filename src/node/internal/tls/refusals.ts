/** Tells a certificate that is not accepted from other errors of TLS, at both ends. */
import type { Duplex } from "node:stream"
import type * as Tls from "node:tls"
import * as ConnectionError from "../../../ConnectionError.ts"
import { causeCode } from "../../../internal/reasons/text.ts"
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

/** What a listener of ours says once the handshake is done; see `recordFor`. */
const byOurs: ReadonlyMap<number, Problem> = new Map<number, Problem>([
  // a bad record
  [20, "untrusted"],
  // a record that is too long: expired, or not valid yet
  [22, "expired"],
  // a record of another version, in TLS 1.3 and in 1.2
  [50, "other"],
  [70, "other"]
])

// by the names that codes of errors have where the number is not told: in Bun and in Deno
const alertByName: ReadonlyMap<string | undefined, number> = new Map([
  ["UNEXPECTED_MESSAGE", 10],
  ["BAD_RECORD_MAC", 20],
  ["RECORD_OVERFLOW", 22],
  ["HANDSHAKE_FAILURE", 40],
  ["BAD_CERTIFICATE", 42],
  ["UNSUPPORTED_CERTIFICATE", 43],
  ["CERTIFICATE_REVOKED", 44],
  ["CERTIFICATE_EXPIRED", 45],
  ["CERTIFICATE_UNKNOWN", 46],
  ["UNKNOWN_CA", 48],
  ["ACCESS_DENIED", 49],
  ["DECODE_ERROR", 50],
  ["DECRYPT_ERROR", 51],
  ["PROTOCOL_VERSION", 70],
  ["CERTIFICATE_REQUIRED", 116]
])

const alertOf = (cause: unknown): number =>
  Number(
    /\bSSL alert number (\d+)/.exec(cause instanceof Error ? cause.message : "")?.[1] ??
      alertByName.get(/_ALERT_(\w+)$/.exec(causeCode(cause) ?? "")?.[1]) ?? NaN
  )

// behind half a record of the client it has to fill that one up, which is 16 KiB and a little (RFC 8446, 5.2), and then is a bad one
const record = (...header: ReadonlyArray<number>): Buffer =>
  Buffer.concat([Buffer.from(header), Buffer.alloc(17 * 1024)])

const badRecord = record(23, 3, 3, 0, 32)
const longRecord = record(23, 3, 3, 255, 255)
const foreignRecord = record(23, 9, 9, 0, 32)

/** A record that OpenSSL cannot read, and answers with the alert that stands for what is wrong with a certificate. */
export const recordFor = (cause: unknown): Buffer => {
  const problem = byCode.get(causeCode(cause) ?? "")
  if (problem === "untrusted") return badRecord
  return problem === "expired" || problem === "notYetValid" ? longRecord : foreignRecord
}

/** What this end knows of its own certificate. */
interface Ours {
  readonly asked: boolean
  readonly shown: boolean
  /** When it is valid, in milliseconds. */
  readonly from: number
  readonly to: number
  /** The handshake was done. */
  readonly isDone: boolean
}

const nothing: Ours = { asked: false, shown: false, from: -Infinity, to: Infinity, isDone: false }

/** What this end finds wrong with its own certificate. */
const foundIn = ({ from, shown, to }: Ours): Problem | undefined => {
  const now = Date.now()
  return !shown ? "missing" : now > to ? "expired" : now < from ? "notYetValid" : undefined
}

/** Why a certificate of the peer is not accepted. */
export const refusedHere = (cause: unknown): ConnectionError.ConnectionError | undefined => {
  const problem = byCode.get(causeCode(cause) ?? "")
  return problem === undefined
    ? undefined
    : ConnectionError.make(new ConnectionError.CertificateRefused({ by: "local", problem, cause }))
}

/** Why the peer does not accept ours: what its alert says, or else what is to be seen in the certificate itself. */
const refusedThere = (cause: unknown, ours: Ours): ConnectionError.ConnectionError | undefined => {
  const alert = alertOf(cause)
  const named = byAlert.get(alert)
  const isMeant = named !== undefined || (ours.asked && (inPlace.has(alert) || (ours.isDone && byOurs.has(alert))))
  if (!isMeant) return undefined
  const found = ours.asked ? foundIn(ours) : undefined
  const said = named ?? (ours.isDone ? byOurs.get(alert) : undefined) ?? "other"
  // an alert that is about certificates, and says what is wrong
  const isClear = named !== undefined && named !== "other" && found !== "missing"
  return refusedBy(isClear ? named : found ?? said, cause)
}

const refusedBy = (problem: Problem, cause: unknown): ConnectionError.ConnectionError =>
  ConnectionError.make(new ConnectionError.CertificateRefused({ by: "peer", problem, cause }))

/**
 * Whether a server has asked for our certificate: only then it has told which signatures it knows (RFC 8446, 4.3.2; RFC 5246,
 * 7.4.4). Empty once the connection is gone. Deno does not tell.
 */
export const isAsked = (conn: Partial<Pick<Tls.TLSSocket, "getSharedSigalgs">>): boolean =>
  (conn.getSharedSigalgs?.() ?? []).length > 0

/** Our certificate, as we know it while there is a connection. */
const oursOf = (conn: Tls.TLSSocket, isDone: boolean): Ours => {
  const { valid_from: from, valid_to: to } = (conn.getCertificate() ?? {}) as Partial<Tls.PeerCertificate>
  return from === undefined || to === undefined
    ? { ...nothing, asked: true, isDone }
    : { asked: true, shown: true, from: Date.parse(from), to: Date.parse(to), isDone }
}

/** The peer has said something, so it has accepted what we showed. */
const hasAnswered = (conn: Duplex): boolean => conn.readableDidRead || conn.readableLength > 0

// as many ends in a row are no coincidence
const mostSilentEnds = 3

/**
 * What became of the connections of one dialler whose servers had asked for a certificate. A server may end such a connection
 * without an alert (Node's do); so do one that is stopping, and a proxy whose server is gone. As long as no byte has ever come, it
 * is taken for a refusal when it was so three times in a row.
 */
export class Consents {
  private isProven = false
  private silentEnds = 0

  /** Whether a session ticket is not taken for consent any more, which servers send before they look. */
  get isDoubtful(): boolean {
    return !this.isProven && this.silentEnds > 0
  }

  get isRefused(): boolean {
    return !this.isProven && this.silentEnds >= mostSilentEnds
  }

  answered(): void {
    this.isProven = true
  }

  endedSilently(): void {
    this.silentEnds++
  }

  endedOtherwise(): void {
    this.silentEnds = 0
  }
}

/** From now on the errors of a connection of ours tell which of them are refusals. */
export const watchDialled = (conn: Tls.TLSSocket, consents: Consents): void => {
  let ours = nothing
  let isOver = false
  const look = (isDone: boolean): void => {
    if (isAsked(conn)) ours = oursOf(conn, isDone)
  }
  /** The peer has ended it, by a FIN or by an error. */
  const onEnd = (cause: unknown): void => {
    if (isOver) return
    isOver = true
    look(ours.isDone)
    if (hasAnswered(conn)) consents.answered()
    else if (!ours.asked || refusedThere(cause, ours) !== undefined) consents.endedOtherwise()
    else consents.endedSilently()
  }
  // at its end a connection knows nothing any more
  conn.once("secureConnect", () => look(true))
  conn.prependOnceListener("error", (cause) => {
    onEnd(cause)
    // after the handshake Node tells of an alert, and goes on
    conn.destroy(cause)
  })
  conn.prependOnceListener("end", () => onEnd(undefined))
  conn.once("close", () => {
    if (hasAnswered(conn)) consents.answered()
  })
  Object.assign(conn, {
    [Meaning]: (cause: unknown) => {
      const known = refusedHere(cause)
      if (known !== undefined || hasAnswered(conn)) return known
      return refusedThere(cause, ours) ??
        (consents.isRefused && ours.asked ? refusedBy(foundIn(ours) ?? "other", cause) : undefined)
    }
  })
}

/** What an error of an accepted connection means, in its handshake or before the first byte of the client. */
export const meaningOfAccepted = (cause: unknown): ConnectionError.ConnectionError | undefined =>
  refusedHere(cause) ?? refusedThere(cause, nothing)

function whenAccepted(this: Duplex, cause: unknown): ConnectionError.ConnectionError | undefined {
  return hasAnswered(this) ? undefined : meaningOfAccepted(cause)
}

/** As `watchDialled`, of a connection that was accepted: the same function for all of them. */
export const watchAccepted = (conn: Tls.TLSSocket): void => void Object.assign(conn, { [Meaning]: whenAccepted })
