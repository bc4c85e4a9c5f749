/**
 * The types of `SocketContract`: the implementation under test, a check, and how a broken promise is reported.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import type * as SocketServer from "effect/socket/SocketServer"

/**
 * Something that listens, and the way to it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Listening {
  /** Where connections arrive. A check calls its `run`, more than once in some. */
  readonly server: SocketServer.SocketServer["Service"]
  /** Makes a fresh socket that dials this server. It is used again after the server is gone: it has to be refused then. */
  readonly dial: Effect.Effect<Socket.Socket, unknown, Scope.Scope>
}

/**
 * The implementation under test: how to listen and dial, and what it can do beyond the contract.
 *
 * **Details**
 *
 * What a transport cannot do is stated here, and stated means tested: a transport without half-close is checked to leave
 * the other direction alone when a writer is released.
 *
 * @category models
 * @since 0.1.0
 */
export interface Transport {
  /** Starts every message of a violation: `tcp`, `my websocket`. */
  readonly name: string
  /** Keeps message boundaries, tells text from binary and carries close codes (WebSocket). Otherwise a byte stream. */
  readonly messages: boolean
  /** Releasing a writer finishes sending (FIN), and the peer may go on sending. A WebSocket has no such thing. */
  readonly halfClose: boolean
  /** Listens on an address of its own, until the scope closes. */
  readonly listen: Effect.Effect<Listening, unknown, Scope.Scope>
  /**
   * A dialled socket's reader can be acquired again after its scope closed, which dials again. Default true, as
   * `effect/socket` describes it.
   */
  readonly redial?: boolean | undefined
  /**
   * Breaks the connection of an accepted socket the way a crash does, without any goodbye (RST). The peer has to report
   * something else than an orderly end. Left out, that is not checked.
   */
  readonly abort?: ((accepted: Socket.Socket) => Effect.Effect<void>) | undefined
  /**
   * How much the implementation holds now: descriptors, connections, whatever counts. It has to be back where it was
   * soon after each check. Left out, leaks are not looked for.
   */
  readonly held?: Effect.Effect<number> | undefined
  /**
   * The longest one step of a check may take; nothing legal does. Default 5 seconds, of the `Clock`. A whole check gets
   * three times as much.
   */
  readonly deadline?: Duration.Input | undefined
  /**
   * How long something has to stay suspended to be believed to be. Default 50 milliseconds, of the `Clock`. Longer finds
   * more, shorter never accuses wrongly.
   */
  readonly quiet?: Duration.Input | undefined
  /**
   * The most bytes that writes may take while the peer does not read. Default 64 MiB: Linux lends a TCP connection on loopback
   * up to 6 MiB for receiving and 4 MiB for sending (`tcp_rmem`, `tcp_wmem`), and a sender that does not wait at all has
   * no bound.
   */
  readonly capacity?: number | undefined
  /** How many bytes the large transfers carry in each direction. Default 2 MiB. */
  readonly bulk?: number | undefined
}

/**
 * The contract is broken: what was expected, and what was seen.
 *
 * @category errors
 * @since 0.1.0
 */
export class ContractViolation extends Schema.TaggedError<ContractViolation>()("ContractViolation", {
  /** The name of the transport. */
  transport: Schema.String,
  /** The name of the check. */
  check: Schema.String,
  expected: Schema.String,
  seen: Schema.String
}) {
  override get message(): string {
    return `${this.transport}: ${this.check}: expected ${this.expected}, saw ${this.seen}`
  }
}

/**
 * What a transport has to be or to have for a check to make sense.
 *
 * @category models
 * @since 0.1.0
 */
export type Need = "stream" | "messages" | "half-close" | "no half-close" | "redial" | "abort"

/**
 * One promise of the contract, as something to run.
 *
 * @category models
 * @since 0.1.0
 */
export interface Check {
  /** A sentence that is true of a conforming transport. Unique. */
  readonly name: string
  /** All of these have to hold of the transport. */
  readonly needs: ReadonlyArray<Need>
  /**
   * Fails with what is broken. It ends within three deadlines of the transport, whatever the implementation does; what
   * hangs then is left behind. A check whose needs are not met fails, saying so: pick with `checksFor`.
   */
  readonly run: (transport: Transport) => Effect.Effect<void, ContractViolation>
}
