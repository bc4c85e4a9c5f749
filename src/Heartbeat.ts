/**
 * How two ends tell each other that they are alive, in messages of their own protocol.
 *
 * When to ping and how long to wait is a matter of `Policy`; this module only knows what a ping and a pong look like.
 *
 * @since 0.1.0
 */
import * as Equal from "effect/Equal"
import type { Advice, Reason } from "./ConnectionError.ts"

/**
 * What a received message means to the connection, when it is not an ordinary message.
 *
 * - `Ping`: answered with `answer`, ahead of waiting data.
 * - `Pong`: matched to its ping by `token`, or, where pongs carry none, taken for the answer to the oldest.
 * - `Leave`: the peer asks us to finish; `Connection.leaving` completes.
 * - `Data`: an ordinary message after all, which brings advice.
 * - `End`: the peer says that the conversation is over, for this reason. It gets no farewell.
 * - `Violation`: the message is not allowed. The connection ends for this reason, and the peer is told.
 *
 * `advice` is what the peer asks of those it will lose; it holds until the next.
 *
 * @category models
 * @since 0.1.0
 */
export type Signal<Out> =
  | { readonly _tag: "Ping"; readonly answer: Out; readonly advice?: Advice | undefined }
  | { readonly _tag: "Pong"; readonly token: number | undefined }
  | { readonly _tag: "Leave"; readonly advice?: Advice | undefined }
  | { readonly _tag: "Data"; readonly advice: Advice | undefined }
  | { readonly _tag: "End"; readonly reason: Reason; readonly advice?: Advice | undefined }
  | { readonly _tag: "Violation"; readonly reason: Reason; readonly advice?: undefined }

/**
 * The pings and pongs of a protocol, and whatever else in it is not for the application.
 *
 * **Details**
 *
 * `reader` makes the reader of one connection, which may keep state, as a codec's decoder does. It is called for every
 * message: keep it cheap, and return `undefined` for ordinary ones. Nothing else is ever received as a message.
 *
 * A token, where the protocol has room for one, matches a pong to its ping: only then does a late or repeated pong not
 * pass for a fresh one. Tokens are whole numbers counting up from 1.
 *
 * @category models
 * @since 0.1.0
 */
export interface Heartbeat<in In, out Out> {
  readonly ping: (token: number) => Out
  readonly reader: () => (message: In) => Signal<Out> | undefined
}

const untokenedPong = { _tag: "Pong", token: undefined } as const

/**
 * Pings and pongs that are fixed messages, compared structurally: `{ ping: { type: "ping" }, pong: { type: "pong" } }`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const messages = <A>(options: { readonly ping: A; readonly pong: A }): Heartbeat<A, A> => {
  const answered = { _tag: "Ping", answer: options.pong } as const
  return make({
    ping: () => options.ping,
    read: (message) =>
      Equal.equals(message, options.ping)
        ? answered
        : Equal.equals(message, options.pong)
        ? untokenedPong
        : undefined
  })
}

/** A token is at most 16 digits; anything longer is an ordinary message. */
const tokenAfter = (message: string, prefix: string): string | undefined =>
  message.startsWith(prefix) && /^\d{1,16}$/.test(message.slice(prefix.length))
    ? message.slice(prefix.length)
    : undefined

/**
 * Pings and pongs that are fixed texts: a message `ping` is answered with `pong`.
 *
 * With `token: true` a number follows (`ping 7` is answered with `pong 7`), so that each pong is matched to its ping; a
 * peer that sends no number is still answered.
 *
 * @category constructors
 * @since 0.1.0
 */
export const text = (
  ping: string,
  pong: string,
  options?: { readonly token?: boolean | undefined }
): Heartbeat<string, string> => {
  const answered = { _tag: "Ping", answer: pong } as const
  if (options?.token !== true) {
    return make({
      ping: () => ping,
      read: (message) => (message === ping ? answered : message === pong ? untokenedPong : undefined)
    })
  }
  const pingPrefix = `${ping} `
  const pongPrefix = `${pong} `
  return make({
    ping: (token) => pingPrefix + token,
    read: (message) => {
      if (message === ping) return answered
      if (message === pong) return untokenedPong
      const asked = tokenAfter(message, pingPrefix)
      if (asked !== undefined) return { _tag: "Ping", answer: pongPrefix + asked }
      const told = tokenAfter(message, pongPrefix)
      return told === undefined ? undefined : { _tag: "Pong", token: Number(told) }
    }
  })
}

/**
 * Pings and pongs of a protocol of your own, told by looking at one message alone. Where more has to be remembered, write
 * a `Heartbeat` with its own `reader`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <In, Out>(options: {
  readonly ping: (token: number) => Out
  readonly read: (message: In) => Signal<Out> | undefined
}): Heartbeat<In, Out> => ({ ping: options.ping, reader: () => options.read })
