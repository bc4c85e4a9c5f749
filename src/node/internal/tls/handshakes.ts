/** The server's side of TLS handshakes, on accepted connections. */
import type * as Net from "node:net"
import * as Tls from "node:tls"
import { hear } from "../stream/duplex.ts"
import { meaningOfAccepted, recordFor, watchAccepted } from "./refusals.ts"

/** How connections are secured from now on; asked at each handshake, so it may change under those that live. */
export interface Securing {
  readonly context: Tls.SecureContext
  /** Whether clients have to show a certificate. */
  readonly requestCert: boolean
  /** The context for a name that a client asks for (SNI), where that is another one. */
  readonly contextOf: ((name: string) => Tls.SecureContext | undefined) | undefined
  readonly alpn: ReadonlyArray<string> | undefined
}

/** What `TLSSocket` has beyond its types: what `tls.Server` itself uses of it. */
interface Handshaking {
  readonly _releaseControl?: () => void
  readonly _handle?: {
    readonly verifyError?: () => Error | string | null | undefined
    readonly receive?: (bytes: Uint8Array) => void
    readonly readStop?: () => void
  } | null
  secureConnecting?: boolean
}

/**
 * Tells a client that its certificate is not accepted. Node looks at it when OpenSSL is done with the handshake, and can send no
 * alert then: the client would see an end without a reason. OpenSSL answers a record that it cannot read with one, and says
 * that it could not; `done` is called then, or soon. What is wrong with the record chooses the alert, and a client of ours
 * knows what it stands for.
 */
const alert = (conn: Tls.TLSSocket & Handshaking, record: Buffer, done: () => void): void => {
  const later = setImmediate(done)
  conn.once("_tlsError", () => {
    clearImmediate(later)
    done()
  })
  conn._handle?.receive?.(record)
}

/**
 * Ends a connection whose client was sent an alert, and may be sending already: to close it with unread input is a reset, which
 * takes the alert away from the client. What still comes stays in the kernel.
 */
const lingerUnread = (conn: Tls.TLSSocket & Handshaking, limit: number): void => {
  if (limit === 0 || conn.destroyed) return void conn.destroy()
  conn._handle?.readStop?.()
  conn.end()
  // a socket that is not read keeps no process alive
  const timer = setTimeout(() => conn.destroy(), limit)
  conn.once("close", () => clearTimeout(timer))
}

/** Node tells what is wrong with a certificate as an error; Deno as the code of one, or "". */
const wrongWith = (told: Error | string | null | undefined): Error | undefined =>
  typeof told !== "string"
    ? told ?? undefined
    : told === ""
    ? undefined
    : Object.assign(new Error(told), { code: told })

/**
 * Does the TLS handshake; what comes out is half-open. It ends with a call, or with the connection destroyed: bounding its time
 * is up to the caller. One that failed is destroyed as well, or `isToldWhy`, and destroyed after `linger` milliseconds.
 */
export const handshakes = (
  securing: () => Securing,
  linger: number
): (
  raw: Net.Socket,
  onSecure: (conn: Tls.TLSSocket) => void,
  onFailure: (cause: unknown, isToldWhy: boolean) => void
) => void =>
(raw, onSecure, onFailure) => {
  const { alpn, context, contextOf, requestCert } = securing()
  // until it is secure, the peer's end is the end; TLS takes this over from what it runs on
  raw.allowHalfOpen = false
  const conn: Tls.TLSSocket & Handshaking = new Tls.TLSSocket(raw, {
    isServer: true,
    secureContext: context,
    requestCert,
    // OpenSSL then says to a client without a certificate that it has to have one
    rejectUnauthorized: requestCert,
    ...(alpn === undefined ? {} : { ALPNProtocols: [...alpn] }),
    ...(contextOf === undefined ? {} : {
      SNICallback: (name, found) => found(null, contextOf(name.toLowerCase()))
    })
  })
  const fail = (cause: unknown): void => {
    onFailure(meaningOfAccepted(cause) ?? cause, false)
    conn.destroy()
  }
  hear(conn)
  // an error of the handshake is no error of the stream
  conn.once("_tlsError", fail)
  conn.once("secure", () => {
    conn.off("_tlsError", fail)
    const wrong = requestCert ? wrongWith(conn._handle?.verifyError?.()) : undefined
    if (wrong !== undefined) {
      return alert(conn, recordFor(wrong), () => {
        lingerUnread(conn, linger)
        onFailure(meaningOfAccepted(wrong) ?? wrong, true)
      })
    }
    conn._releaseControl?.()
    conn.secureConnecting = false
    conn.authorized = requestCert
    conn.allowHalfOpen = true
    watchAccepted(conn)
    onSecure(conn)
  })
}
