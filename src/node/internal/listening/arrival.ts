/** One accepted connection, from `accept` until nothing is left of it. */
import type * as Context from "effect/Context"
import type * as Socket from "effect/socket/Socket"
import type * as Http from "node:http"
import type * as Net from "node:net"
import type { Duplex } from "node:stream"
import type { Fifo, Queued } from "../../../internal/scheduling/fifo.ts"
import type { Timer } from "../../../internal/scheduling/timers.ts"
import type { Arriving, Failure, Reception } from "../../../internal/transport/accepted.ts"
import type { Header } from "../../Proxy.ts"
import { type Closing, own } from "../stream/duplex.ts"

export class Arrival implements Queued<Arrival>, Closing {
  queue: Fifo<Arrival> | undefined
  next: Arrival | undefined
  previous: Arrival | undefined
  readonly acceptor: Owner
  /** What was accepted: destroying it destroys whatever runs on top. */
  readonly raw: Net.Socket
  readonly local: string | undefined
  /** The client's, once a proxy that is believed has named it. */
  remote: string | undefined
  /** What the proxy in front of us said. */
  header: Header | undefined
  /** A proxy has yet to say whose it is: until then no server counts it. */
  isAnonymous = false
  /** Told of the request, before anything looks at it. */
  onRequest: ((request: Http.IncomingMessage) => void) | undefined
  /** Called when it waits no more for its turn: it is admitted, or refused. */
  onTurn: (() => void) | undefined
  /** Of the request to upgrade. */
  path: string | undefined
  /** What it waits for is bounded by it. */
  timer: Timer | undefined
  /** Set once the handshakes are done. */
  open: ((arrival: Arrival) => Opened) | undefined
  /** Which consumer it is for: that counts it, or got it. */
  consumer: Consumer | undefined
  /** How the server of `consumer` counts it, until the server gets it. */
  counted: Arriving | undefined
  /** Why it ended in its handshakes. */
  failure: Failure | undefined

  constructor(acceptor: Owner, raw: Net.Socket, local: string | undefined, remote: string | undefined) {
    this.acceptor = acceptor
    this.raw = raw
    this.local = local
    this.remote = remote
    own(raw, this)
  }

  closed(): void {
    this.acceptor.gone(this)
  }

  /** Asked just before the upgrade. */
  get refusal(): string | undefined {
    return this.counted?.refusal()
  }

  stopTime(): void {
    this.timer?.cancel()
    this.timer = undefined
  }

  get mustWait(): boolean {
    return this.counted?.state === "waiting"
  }

  /** Its request was answered, and not upgraded. */
  answered(status: number): void {
    this.failure ??= { _tag: "Answered", status }
  }

  /** The server of `consumer` does not get it. */
  uncount(): void {
    this.counted?.end()
    this.counted = undefined
  }

  /** Ends it before it was handed out. */
  fail(failure: Failure): void {
    this.failure ??= failure
    this.raw.destroy()
  }
}

/** The acceptor, as far as its arrivals see it. */
export interface Owner {
  readonly linger: number
  /** Passes the ownership to the fiber that acquires the reader, or says why not. */
  readonly claim: (arrival: Arrival, stream: Duplex) => Socket.SocketError | undefined
  /** The owner has let go: closing the listener waits until the rest has gone too. */
  readonly release: (raw: Net.Socket) => void
  /** A connection that had an owner is closed. */
  readonly left: (raw: Net.Socket) => void
  readonly gone: (arrival: Arrival) => void
}

/** What a handler gets. */
export interface Opened {
  readonly socket: Socket.Socket
  readonly provide: <R>(context: Context.Context<R>) => Context.Context<R>
  /** Of a WebSocket. A server of ours has no use for it, and does not keep it. */
  readonly request?: Http.IncomingMessage | undefined
}

/** One call of `run`: what takes the connections. */
export interface Consumer {
  /** Undefined: for all paths. */
  readonly path: string | undefined
  /** Of a server of ours: what counts connections from their accept on. */
  readonly reception: Reception | undefined
  readonly take: (arrival: Arrival, opened: Opened) => void
  readonly fail: (cause: Error) => void
}
