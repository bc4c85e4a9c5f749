/** One connection to Redis: commands with their answers, until it is cut or answers nothing for too long. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import { createClient, type RedisClientOptions } from "redis"
import { BackplaneError } from "../../internal/backplane/engine.ts"
import type { Script } from "./scripts.ts"

/** What it is made of. */
export interface Settings {
  /** Where it goes: asked for each connection. */
  readonly url: Effect.Effect<string, unknown>
  readonly client: Omit<RedisClientOptions, "url">
  /** How long it may take to open, and to answer, in milliseconds. */
  readonly timeout: number
}

export const unreachable = (cause: unknown): BackplaneError => new BackplaneError({ reason: "unreachable", cause })

type Client = ReturnType<typeof clientOf>

// one connection for everything: replies and batches of others share it since RESP3
const clientOf = (settings: Settings, url: string) =>
  createClient({
    ...settings.client,
    ...(url === "" ? {} : { url }),
    RESP: 3,
    disableOfflineQueue: true,
    maintNotifications: "disabled",
    socket: { connectTimeout: settings.timeout, ...settings.client.socket, reconnectStrategy: false } as NonNullable<
      RedisClientOptions["socket"]
    >
  })

/** An open connection. */
export class Connection {
  /** Why it ended. */
  error: BackplaneError | undefined
  private readonly client: Client
  private readonly clock: Clock.Clock
  private readonly timeout: number
  private readonly cut = Latch.makeUnsafe(false)
  // commands without an answer, and when the last one of them was answered, or the first one was sent
  private waiting = 0
  private heardAt = 0

  constructor(client: Client, clock: Clock.Clock, timeout: number) {
    this.client = client
    this.clock = clock
    this.timeout = timeout
    const end = (cause?: unknown) => this.end(cause)
    client.on("error", end)
    client.on("end", end)
  }

  private end(cause: unknown): void {
    this.error ??= unreachable(cause)
    this.cut.openUnsafe()
  }

  /** Succeeds once it is of no use any more. Its scope closes it then. */
  get over(): Effect.Effect<void> {
    return Effect.raceFirst(this.cut.await, this.stalled)
  }

  private get stalled(): Effect.Effect<void> {
    const { timeout } = this
    const look: Effect.Effect<void> = Effect.suspend(() =>
      this.waiting > 0 && this.clock.currentTimeMillisUnsafe() - this.heardAt >= timeout
        ? Effect.sync(() => this.end(`no answer for ${timeout} ms`))
        : Effect.andThen(Effect.sleep(timeout / 4), look)
    )
    return look
  }

  private sent(): void {
    if (this.waiting++ === 0) this.heardAt = this.clock.currentTimeMillisUnsafe()
  }

  private answered(): void {
    this.waiting--
    this.heardAt = this.clock.currentTimeMillisUnsafe()
  }

  /** A command. What an interrupted fiber does not wait for any more is answered all the same. */
  ask(command: ReadonlyArray<string | Buffer>): Effect.Effect<unknown, BackplaneError> {
    return Effect.callback<unknown, BackplaneError>((resume) => {
      this.sent()
      this.client.sendCommand(command).then(
        (reply) => {
          this.answered()
          resume(Effect.succeed(reply))
        },
        (cause) => {
          this.answered()
          resume(Effect.fail(unreachable(cause)))
        }
      )
    })
  }

  /** Runs a script, which the server keeps for the next time. */
  run(script: Script, args: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<string>, BackplaneError> {
    return Effect.catch(
      this.ask(["EVALSHA", script.sha, ...args]),
      (error) =>
        error.cause instanceof Error && error.cause.message.startsWith("NOSCRIPT")
          ? this.ask(["EVAL", script.text, ...args])
          : Effect.fail(error)
    ) as Effect.Effect<ReadonlyArray<string>, BackplaneError>
  }

  /** Takes all that is published on a channel from now on. */
  subscribe(channel: string, listener: (bytes: Buffer) => void): Effect.Effect<void, BackplaneError> {
    return Effect.callback<void, BackplaneError>((resume) => {
      this.sent()
      this.client.subscribe(channel, listener, true).then(
        () => {
          this.answered()
          resume(Effect.void)
        },
        (cause) => {
          this.answered()
          resume(Effect.fail(unreachable(cause)))
        }
      )
    })
  }

  /** Takes nothing of a channel any more. */
  unsubscribe(channel: string): Effect.Effect<void> {
    return Effect.promise(() => this.client.unsubscribe(channel).then(() => {}, () => {}))
  }
}

const within = (timeout: number) => <A>(effect: Effect.Effect<A, BackplaneError>): Effect.Effect<A, BackplaneError> =>
  Effect.timeoutOrElse(effect, {
    duration: timeout,
    orElse: () => Effect.fail(unreachable(`no answer for ${timeout} ms`))
  })

/** Opens a connection, for as long as the scope is open. */
export const open = (settings: Settings): Effect.Effect<Connection, BackplaneError, Scope.Scope> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const { timeout } = settings
    const url = yield* within(timeout)(Effect.mapError(settings.url, unreachable))
    let isReleased = false
    const client = yield* Effect.acquireRelease(
      Effect.try({ try: () => clientOf(settings, url), catch: unreachable }),
      (client) =>
        Effect.sync(() => {
          isReleased = true
          client.destroy()
        })
    )
    const connection = new Connection(client, clock, timeout)
    yield* within(timeout)(Effect.callback<void, BackplaneError>((resume) => {
      client.connect().then(
        () => {
          // one that was still dialling could not be destroyed
          if (isReleased) client.destroy()
          resume(Effect.void)
        },
        (cause) => resume(Effect.fail(unreachable(cause)))
      )
    }))
    return connection
  })
