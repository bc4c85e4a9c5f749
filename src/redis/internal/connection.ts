/** One connection to Redis: commands with their answers, until it is cut or answers nothing for too long. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { createClient, ErrorReply, type RedisClientOptions } from "redis"
import type { BackplaneError } from "../../internal/backplane/engine.ts"
import type { Link } from "../../internal/backplane/line.ts"
import { Pulse, unreachable, within } from "../../internal/backplane/pulse.ts"
import type { Script } from "./scripts.ts"

/** What it is made of. */
export interface Settings {
  /** Where it goes: asked for each connection. */
  readonly url: Effect.Effect<string, unknown>
  readonly client: Omit<RedisClientOptions, "url">
  /** How long it may take to open, and to answer, in milliseconds. */
  readonly timeout: number
}

type Client = ReturnType<typeof clientOf>

// one connection for everything: replies and batches of others share it since RESP3
const clientOf = (settings: Settings, url: string) =>
  createClient({
    ...settings.client,
    ...(url === "" ? {} : { url }),
    RESP: 3,
    // it makes a timer and an error of each command, 5 s long: here one timer looks after all of them
    commandOptions: { ...settings.client.commandOptions, timeout: 0 },
    disableOfflineQueue: true,
    maintNotifications: "disabled",
    socket: { connectTimeout: settings.timeout, ...settings.client.socket, reconnectStrategy: false } as NonNullable<
      RedisClientOptions["socket"]
    >
  })

// one for all: it is told for each batch
const sent = Effect.succeed("sent" as const)
const nobody = Effect.succeed("nobody" as const)

/** An open connection. */
export class Connection implements Link {
  private readonly client: Client
  private readonly pulse: Pulse

  constructor(client: Client, pulse: Pulse) {
    this.client = client
    this.pulse = pulse
    const end = (cause?: unknown) => pulse.end(unreachable(cause))
    client.on("error", end)
    client.on("end", end)
  }

  get over(): Effect.Effect<BackplaneError, BackplaneError> {
    return this.pulse.over
  }

  ask(command: ReadonlyArray<string | Buffer>): Effect.Effect<unknown, BackplaneError> {
    return this.pulse.promise<unknown>(() => this.client.sendCommand(command))
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

  publish(channel: string, bytes: Buffer): Effect.Effect<"sent" | "nobody", BackplaneError> {
    return this.pulse.ask((tell) => {
      try {
        this.client.sendCommand<number>(["PUBLISH", channel, bytes]).then(
          (receivers) => tell(receivers === 0 ? nobody : sent),
          (cause) => tell(Effect.fail(unreachable(cause)))
        )
      } catch (cause) {
        tell(Effect.fail(unreachable(cause)))
      }
    })
  }

  /** Takes all that is published on a channel from now on. */
  subscribe(channel: string, listener: (bytes: Buffer) => void): Effect.Effect<void, BackplaneError> {
    return this.pulse.promise(() => this.client.subscribe(channel, listener, true))
  }

  /** A listener takes nothing of a channel any more; others of the same channel do. */
  unsubscribe(channel: string, listener: (bytes: Buffer) => void): Effect.Effect<void> {
    return Effect.promise(() => this.client.unsubscribe(channel, listener, true).then(() => {}, () => {}))
  }
}

// of the server as a whole: another connection may find it, or its master, as it should be. Scripts of old servers say it inside
const ofServer = /(^|-)(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|MOVED|NOAUTH|BUSY) /

/** Whether the server has refused what was asked of it, and answers other questions. */
export const isRefused = ({ cause }: BackplaneError): boolean =>
  cause instanceof ErrorReply && !ofServer.test(cause.message)

/** Opens a connection, for as long as the scope is open. */
export const open = (settings: Settings): Effect.Effect<Connection, BackplaneError, Scope.Scope> =>
  Effect.gen(function*() {
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
    const connection = new Connection(client, new Pulse(yield* Clock.Clock, timeout))
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
