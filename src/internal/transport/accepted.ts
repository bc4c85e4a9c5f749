/** A socket that is connected already: a listener hands it to a server, and a connection attaches to it, without a fiber. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Socket from "effect/socket/Socket"
import type { Transport } from "./transport.ts"

/** What one pull came to. */
export type Pulled = Exit.Exit<NonEmptyReadonlyArray<Uint8Array | string>, Socket.SocketError>

/** What takes a read in the event that brings it. */
export interface Taker {
  /** See `Transport.onRead`. */
  readonly takes: (chunk: Uint8Array | string) => boolean
}

/** A connection, as far as the transport sees it that its reader pulls from. */
export interface Reading<out E> extends Taker {
  /** What its reader does with what it pulled, for ever. */
  readonly pulled: (pulled: Pulled) => Effect.Effect<never, E>
}

/** What a reader pulls from. */
export interface Source {
  /** Waits for what comes next, and goes on with what `reading` does with it. */
  readonly pullInto: <E>(reading: Reading<E>) => Effect.Effect<never, E>
  /** As `Transport.onRead`. */
  readonly offerTo: (taker: Taker) => void
}

/**
 * A transport that is connected already. What a socket's reader and writer do in a scope needs no effect here, which is
 * half of what it costs to take a connection: the listener hands it to the server in the event that brings it, and the
 * connection attaches to it and lets it go, in one step each. A `SocketServer` or a `Socket` that is not ours goes the long
 * way, with the same tests.
 */
export interface Attachable extends Transport, Source {
  /** Begins to read, or says why it cannot. */
  readonly attach: () => Socket.SocketError | undefined
  /** Reads no more; flushes and closes in the background. */
  readonly detach: () => void
  readonly write: Socket.Writer["write"]
  readonly writeAll: Socket.Writer["writeAll"]
}

/** Not of a socket that wraps one: its reader is another one. */
export const attachable = (socket: Socket.Socket, transport: Transport): Attachable | undefined =>
  "attach" in transport && (transport as unknown) === socket ? transport as Attachable : undefined

/** Why an accepted connection ended before it was a socket. */
export type Failure =
  | { readonly _tag: "Timeout"; readonly limit: number }
  | { readonly _tag: "Failed"; readonly cause: unknown }
  | { readonly _tag: "Answered"; readonly status: number }
  | { readonly _tag: "TooMany"; readonly limit: "maxPending"; readonly allowed: number }

/** How a server counts a connection that was accepted and has a TLS handshake or an upgrade ahead. */
export interface Arriving {
  /** `waiting`: its handshakes have to wait for its turn. `refused`: a limit keeps it out, of which the application was told. */
  readonly state: "waiting" | "admitted" | "refused"
  /**
   * Why the peer is not let in, asked just before a protocol's first word: a limit keeps it out, or the server stops, of which
   * the application is told now.
   */
  readonly refusal: () => string | undefined
  /** It is gone, and was not received; a `failure` is told to the application. */
  readonly end: (failure?: Failure) => void
}

/**
 * What a server gives a listener of ours besides its handler of sockets. `receive` is called for a socket that is there,
 * instead of running the handler in a fiber made for it: the server makes its own. `done` is called once, when the socket
 * has an owner, or will not be read any more.
 */
export interface Reception {
  /** Counts a connection from its accept on. `onTurn` is called where it waits, and waits no more. */
  readonly admit: (remote: string | undefined, onTurn: () => void) => Arriving
  /** Tells of one that ended before it was known whose it is: it was not counted. */
  readonly turnedAway: (remote: string | undefined, failure: Failure) => void
  /** With what `admit` gave, which counts for the socket from now on; a refused one is told why. */
  readonly receive: (
    socket: Socket.Socket,
    context: Context.Context<never>,
    done: () => void,
    arriving: Arriving | undefined
  ) => void
}

/** Of a handler of sockets: what it is beyond that. */
export const Direct = "~holdfast/Direct"
/** The one path whose WebSockets a handler is for; without it, those of all paths. */
export const OnPath = "~holdfast/OnPath"
export interface Directly {
  readonly [OnPath]?: string
  readonly [Direct]?: Reception
}

/**
 * Of a `SocketServer`: what a server that stops calls with its `Reception`. Accepts what the kernel has accepted, and then
 * stops listening, unless another handler goes on.
 */
export const LastAccept = "~holdfast/LastAccept"
export interface Accepting {
  readonly [LastAccept]?: (reception: Reception) => Effect.Effect<void>
}
