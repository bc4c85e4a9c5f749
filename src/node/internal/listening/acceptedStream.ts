/** The socket of an accepted byte stream, plain or with TLS. */
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import type * as Net from "node:net"
import type { Attachable } from "../../../internal/transport/accepted.ts"
import { type Transport, TypeId } from "../../../internal/transport/transport.ts"
import { CurrentHeader, type Header } from "../../Proxy.ts"
import { type Closing, openError, own, readerOf, Stream, writerOf } from "../stream/duplex.ts"
import { linger } from "../stream/tcp.ts"
import { identityOf } from "../upgrade/certificate.ts"
import type { Arrival, Opened, Owner } from "./arrival.ts"

/** Adds what a proxy said, where one did. */
export const withHeader = <R>(context: Context.Context<R>, header: Header | undefined): Context.Context<R> =>
  header === undefined ? context : Context.add(context, CurrentHeader, header) as Context.Context<R>

/**
 * An accepted byte stream: `conn` is what was accepted, or TLS on top of it. It is socket and transport itself: there may be
 * ten thousand.
 */
export class AcceptedStream extends Stream implements Socket.Socket, Attachable, Opened, Closing {
  readonly [Socket.TypeId]: typeof Socket.TypeId = Socket.TypeId
  // a property of its own: what wraps this socket is not this transport
  readonly [TypeId] = this
  readonly messages = false
  // until it is attached: from then on the end of the connection is told here, and nothing keeps the arrival
  private arrival: Arrival | undefined
  private readonly acceptor: Owner
  private readonly raw: Net.Socket
  private readonly accepted: Net.Socket
  readonly local: string | undefined
  readonly remote: string | undefined
  /** A connection that is gone knows no certificate any more, so it is read before. */
  readonly identity: Transport["identity"]

  constructor(arrival: Arrival, conn: Net.Socket) {
    super()
    this.arrival = arrival
    this.acceptor = arrival.acceptor
    this.raw = arrival.raw
    this.accepted = conn
    this.local = arrival.local
    this.remote = arrival.remote
    this.identity = identityOf(conn)
  }

  get socket(): Socket.Socket {
    return this
  }

  attach(): Socket.SocketError | undefined {
    if (this.arrival === undefined) return openError(new Error("the connection was read before"))
    const failure = this.acceptor.claim(this.arrival, this.accepted)
    if (failure !== undefined) return failure
    this.arrival = undefined
    own(this.raw, this)
    this.start(this.accepted)
    return undefined
  }

  closed(): void {
    this.acceptor.left(this.raw)
  }

  detach(): void {
    this.stop()
    linger(this.accepted, this.acceptor.linger)
    this.acceptor.release(this.raw)
  }

  get reader(): Socket.Socket["reader"] {
    // in one piece: nothing comes between having a stream and owning it
    return Effect.uninterruptible(Effect.flatMap(Effect.scope, (scope) => {
      const failure = this.attach()
      return failure === undefined
        ? Effect.as(Scope.addFinalizer(scope, Effect.sync(() => this.detach())), readerOf(this))
        : Effect.fail(failure)
    }))
  }

  get writer(): Socket.Socket["writer"] {
    return writerOf(this)
  }

  provide<R>(context: Context.Context<R>): Context.Context<R> {
    return withHeader(Context.add(context, NodeSocket.NetSocket, this.accepted), this.arrival?.header)
  }
}
