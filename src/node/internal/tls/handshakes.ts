/** The server's side of TLS handshakes, on accepted connections. */
import type * as Net from "node:net"
import * as Tls from "node:tls"
import { noop } from "../stream/tcp.ts"
import { meaningOfAccepted, watchAccepted } from "./refusals.ts"

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
    readonly verifyError?: () => Error | undefined
    readonly receive?: (bytes: Uint8Array) => void
  } | null
  secureConnecting?: boolean
}

// a record of 32 bytes that nothing can have encrypted
const unreadable = Buffer.concat([Buffer.from([23, 3, 3, 0, 32]), Buffer.alloc(32)])

/**
 * Tells a client that its certificate is not accepted. Node looks at it when OpenSSL is done with the handshake, and can send no
 * alert then: the client would see an end without a reason. OpenSSL answers a record that it cannot read with one, and says
 * that it could not; `done` is called then, or soon.
 */
const alert = (conn: Tls.TLSSocket & Handshaking, done: () => void): void => {
  const later = setImmediate(done)
  conn.once("_tlsError", () => {
    clearImmediate(later)
    done()
  })
  conn._handle?.receive?.(unreadable)
}

/**
 * Does the TLS handshake; what comes out is half-open. It ends with a call, or with the connection destroyed: bounding its time
 * is up to the caller.
 */
export const handshakes = (
  securing: () => Securing
): (raw: Net.Socket, onSecure: (conn: Tls.TLSSocket) => void, onFailure: (cause: unknown) => void) => void =>
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
    onFailure(meaningOfAccepted(cause) ?? cause)
    conn.destroy()
  }
  conn.on("error", noop)
  // an error of the handshake is no error of the stream
  conn.once("_tlsError", fail)
  conn.once("secure", () => {
    conn.off("_tlsError", fail)
    const wrong = requestCert ? conn._handle?.verifyError?.() ?? undefined : undefined
    if (wrong !== undefined) return alert(conn, () => fail(wrong))
    conn._releaseControl?.()
    conn.secureConnecting = false
    conn.authorized = requestCert
    conn.allowHalfOpen = true
    watchAccepted(conn)
    onSecure(conn)
  })
}
