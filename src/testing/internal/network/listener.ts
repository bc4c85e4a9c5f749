/** A port that takes connections: the kernel's queue, and the accept loop of `SocketServer`. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import { spawn } from "../../../internal/scheduling/supervised.ts"
import { type Accepting, LastAccept, type Reception } from "../../../internal/transport/accepted.ts"
import type { Compression } from "../../../internal/transport/compression.ts"
import { openError, systemError } from "../fabric/failures.ts"
import type { SocketSettings } from "../fabric/settings.ts"
import type { SimulatedHost } from "../fabric/simulatedHost.ts"
import { type Connection, type ListeningPort, portKey, type TcpStack } from "../tcp/connection.ts"
import * as Sockets from "../tcp/socket.ts"
import type { WebSockets } from "./webSockets.ts"

export interface Options {
  readonly port: number
  readonly backlog: number
  readonly messages: boolean
  /** Makes WebSockets of what is accepted. */
  readonly webSockets: WebSockets | undefined
  readonly compression: Compression | undefined
  readonly settings: SocketSettings
}

/** A `run` of the application. */
interface Consumer {
  readonly take: (connection: Connection) => void
  readonly fail: (cause: unknown) => void
}

const unknownError = (cause: unknown) =>
  new SocketServer.SocketServerError({ reason: new SocketServer.SocketServerUnknownError({ cause }) })

class Listener implements ListeningPort {
  readonly port: number
  readonly messages: boolean
  readonly settings: SocketSettings
  readonly backlog: number
  private readonly webSockets: WebSockets | undefined
  private readonly compression: Compression | undefined
  private readonly stack: TcpStack
  private readonly host: SimulatedHost
  /** Connected, and not accepted. */
  private readonly queue = new Set<Connection>()
  private handshakes = 0
  /** The last one gets the connections. */
  private consumers: ReadonlyArray<Consumer> = []
  /** The servers of consumers that stop. */
  private readonly leaving = new Set<Reception>()

  constructor(stack: TcpStack, host: SimulatedHost, options: Options) {
    this.stack = stack
    this.host = host
    this.port = options.port
    this.messages = options.messages
    this.webSockets = options.webSockets
    this.compression = options.compression
    this.settings = options.settings
    this.backlog = options.backlog
  }

  hasRoom(): boolean {
    return this.queue.size + this.handshakes < this.backlog
  }

  queued(): number {
    return this.queue.size
  }

  reserve(): void {
    this.handshakes++
  }

  unreserve(): void {
    this.handshakes--
  }

  enqueue(connection: Connection): void {
    this.handshakes--
    this.queue.add(connection)
    connection.server.onOver = () => {
      this.queue.delete(connection)
    }
    this.look()
  }

  private look(): void {
    if (this.queue.size > 0 && this.consumers.length > 0) this.host.post(this.accept)
  }

  /** The server of a consumer stops: the last one of these ends the listening. What has connected is still accepted. */
  lastAccept(reception: Reception): Effect.Effect<void> {
    return Effect.sync(() => {
      this.leaving.add(reception)
      if (this.leaving.size >= this.consumers.length) this.forget()
    })
  }

  /** Listens no more: a successor may. */
  forget(): void {
    const key = portKey(this.host.name, this.port)
    if (this.stack.listeners.get(key) === this) this.stack.listeners.delete(key)
  }

  private readonly accept = (): void => {
    for (const connection of this.queue) {
      const consumer = this.consumers.at(-1)
      if (consumer === undefined) return
      const fault = this.stack.injections.next("accept", this.host.name)
      if (fault !== undefined) return consumer.fail(fault)
      this.queue.delete(connection)
      connection.server.onOver = undefined
      this.stack.topology.record("accept", connection.id, connection.client.address, connection.server.address)
      consumer.take(connection)
    }
  }

  crash(): void {
    const down = systemError("accept", "ENETDOWN", "the host crashed")
    for (const consumer of this.consumers) this.host.post(() => consumer.fail(down))
  }

  close(): void {
    for (const { server } of this.queue) server.abort(systemError("read", "ECONNRESET"), true)
  }

  private socketOf(connection: Connection): Socket.Socket {
    const { client, identity, server } = connection
    let claimed = false
    const stream = Sockets.make(
      this.host,
      { messages: this.messages, local: server.address, remote: client.address, identity },
      Effect.suspend(() => {
        if (claimed) return Effect.fail(openError(new Error("the connection was read before")))
        claimed = true
        return Effect.succeed(server)
      })
    )
    return this.webSockets?.over(stream, "server", this.settings, this.compression) ?? stream
  }

  readonly run = <R, E, _>(
    handler: (socket: Socket.Socket) => Effect.Effect<_, E, R>
  ): Effect.Effect<never, SocketServer.SocketServerError, R> =>
    Effect.gen({ self: this }, function*() {
      if (!this.host.isUp) return yield* unknownError(systemError("accept", "ENETDOWN", this.host.name))
      const context = Context.omit(Scope.Scope)(yield* Effect.context<R>()) as Context.Context<R>
      const scope = yield* Scope.make()
      const track = Fiber.runIn(scope)
      let consumer: Consumer | undefined
      const leave = () => {
        this.consumers = this.consumers.filter((other) => other !== consumer)
      }
      const take = (connection: Connection): void => {
        const { server } = connection
        const handled = handler(this.socketOf(connection)).pipe(
          // a handler that failed before it read leaves no other that closes the connection
          Effect.onError(() => Effect.sync(() => Sockets.abandon(server))),
          Effect.ignoreCause({ log: "Unhandled", message: "Unhandled error in SocketServer" })
        )
        track(spawn(context, "handler", handled, () => {}))
      }
      return yield* Effect.callback<never, SocketServer.SocketServerError>((resume) => {
        consumer = {
          take,
          fail: (cause) => {
            leave()
            resume(Effect.fail(unknownError(cause)))
          }
        }
        this.consumers = [...this.consumers, consumer]
        this.look()
      }).pipe(
        Effect.ensuring(Effect.suspend(() => {
          leave()
          return Scope.close(scope, Exit.void)
        }))
      )
    })
}

/** Listens on a port of a host until the scope closes. */
export const listen = (
  stack: TcpStack,
  host: SimulatedHost,
  options: Options
): Effect.Effect<SocketServer.SocketServer["Service"], SocketServer.SocketServerError, Scope.Scope> =>
  Effect.gen(function*() {
    const key = portKey(host.name, options.port)
    const listener = yield* Effect.acquireRelease(
      Effect.suspend(() => {
        const fault = stack.injections.next("listen", host.name)
        const code = !host.isUp ? "ENETDOWN" : stack.listeners.has(key) ? "EADDRINUSE" : undefined
        if (fault !== undefined || code !== undefined) {
          const cause = fault ?? systemError("listen", code!, `${host.name}:${options.port}`)
          const reason = new SocketServer.SocketServerOpenError({ cause })
          return Effect.fail(new SocketServer.SocketServerError({ reason }))
        }
        const listener = new Listener(stack, host, options)
        stack.listeners.set(key, listener)
        host.sockets.add(listener)
        return Effect.succeed(listener)
      }),
      (listener) =>
        Effect.sync(() => {
          listener.forget()
          host.sockets.delete(listener)
          listener.close()
        })
    )
    const service: SocketServer.SocketServer["Service"] & Accepting = {
      address: NetAddress.inetAddressFromIpStringUnsafe(host.ip, options.port),
      run: listener.run,
      [LastAccept]: (reception) => listener.lastAccept(reception)
    }
    return service
  })
