/** How a connection looks. */
import type * as ConnectionError from "../../../ConnectionError.ts"

/**
 * What a connection looks like at one moment. Times are milliseconds of the `Clock`, sizes are bytes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot {
  readonly id: number
  /** `open`; `draining`: nothing more is received, replies still leave; `closing`: flushing; `ended`. */
  readonly state: "open" | "draining" | "closing" | "ended"
  readonly local: string | undefined
  readonly remote: string | undefined
  /**
   * Whom the peer's certificate names, where a listener with `ca` asked for one and accepted it (`tls`, `wss`): there before the
   * handshake runs. Attributes of the subject by name (`{ CN: ["device-7"] }`), alternative names as Node tells them
   * (`DNS:a.example`), SHA-256 of the certificate as `AB:CD:...`.
   */
  readonly identity?: {
    readonly subject: Readonly<Record<string, ReadonlyArray<string>>>
    readonly alternativeNames: ReadonlyArray<string>
    readonly fingerprint: string
  }
  readonly openedAt: number
  /** How long the connection has lived, or lived. */
  readonly age: number
  /** How long ago the peer was last heard. */
  readonly quietFor: number
  readonly bytesIn: number
  readonly bytesOut: number
  readonly messagesIn: number
  readonly messagesOut: number
  /** Messages read and not received yet, and their bytes, with the bytes behind a full inbox, which are not decoded. */
  readonly inbox: { readonly messages: number; readonly bytes: number }
  /** Messages (and their bytes) accepted, and not written yet. */
  readonly outbox: { readonly messages: number; readonly bytes: number }
  /** Messages dropped by `overflow`. */
  readonly dropped: number
  /** Over-long frames that the codec was told to skip. */
  readonly skipped: number
  /** Accepted messages that had not been handed to the transport when the connection ended. */
  readonly lost: number
  /** Whether reading has stopped because the inbox is full. */
  readonly paused: boolean
  /** Round-trip times of pings, in milliseconds; `smoothed` as in RFC 6298 (one eighth of each new one). */
  readonly rtt: { readonly last: number; readonly smoothed: number } | undefined
  /** Why the connection ended, or is ending. */
  readonly reason: ConnectionError.Reason | undefined
}
