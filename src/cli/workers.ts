/** `serve --workers`: several processes of the command behind one socket. */
import * as CliError from "effect/cli/CliError"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Workers from "../node/Workers.ts"
import * as Policy from "../Policy.ts"
import { CommandFailed } from "./CommandFailed.ts"
import { readableByAll } from "./files.ts"
import { jsonLogger, prettyLogger } from "./loggers.ts"
import { policyFlags, policyOf } from "./policyFlags.ts"

const most = 1024

export const workersFlag = Flag.String("workers").pipe(
  Flag.withMetavar("N"),
  Flag.withDescription(
    "So many processes share the connections, to use so many cores: limits of the whole server are divided among them; one that dies is " +
      "started again, and SIGHUP renews all without a refused connection (default one process, without a parent)"
  ),
  Flag.mapEffect((value) => {
    const count = Number(value)
    return /^\d{1,4}$/.test(value) && count >= 1 && count <= most
      ? Effect.succeed(count)
      : Effect.fail(
        new CliError.InvalidValue({
          option: "workers",
          value,
          expected: `a whole number from 1 to ${most}`,
          kind: "flag"
        })
      )
  }),
  Flag.optional
)

/** The part of the limits that this process has. */
export const shared = <E, R>(policy: Effect.Effect<Policy.Policy, E, R>): Effect.Effect<Policy.Policy, E, R> =>
  Effect.map(policy, Workers.share)

/** Scripts read where we listen, and it does not change when a worker is started again. */
export const saysListening = (): boolean => Workers.self()?.isFirst ?? true

/** What each worker has of limits that are for all together. */
const divided = (whole: Policy.Policy, workers: number): string => {
  const part = Policy.encode(Workers.divide(whole, workers))
  const all = Policy.encode(whole)
  const told = (["maxConnections", "acceptRate", "memory"] as const).flatMap((name) =>
    whole[name] === 0 ? [] : [`${name} ${part[name]} of ${all[name]}`]
  )
  const { maxConnectionsPerAddress: mostOfOne } = whole
  return `${workers} worker${workers === 1 ? "" : "s"}${told.length === 0 ? "" : `, each with ${told.join(", ")}`}` +
    (mostOfOne === 0 || workers === 1 ? "" : `; an address may have ${mostOfOne} connections at each of them`)
}

type Given = Readonly<Record<string, unknown>> & {
  readonly workers: Option.Option<number>
  readonly log: "pretty" | "json"
}

const limitNames = Object.keys(policyFlags("serve"))

/** Flags that name a file. */
const fileNames = ["policy", "cert", "key", "ca"]

/** How a parent and its workers end, of which one could not be kept. */
const ending = (lost: Workers.WorkerLost) =>
  // it has said why
  lost.isTold
    ? Effect.sync(() => void (process.exitCode = lost.code))
    : Effect.fail(new CommandFailed({ message: lost.message }))

/** Runs `serve` in workers where that was asked for, and their parent here. */
export const inWorkers = <E, R>(serving: Effect.Effect<void, E, R>, given: Given): Effect.Effect<
  void,
  E | CommandFailed,
  R | FileSystem.FileSystem
> => {
  if (Option.isNone(given.workers)) return serving
  const workers = given.workers.value
  const logger = given.log === "json" ? Logger.withConsoleError(jsonLogger) : prettyLogger()
  return Effect.gen(function*() {
    const limits = Object.fromEntries(limitNames.map((name) => [name, given[name] as Option.Option<unknown>]))
    const policy = yield* policyOf(limits)
    if (Workers.self() === undefined) {
      for (const name of fileNames) {
        const path = given[name] as Option.Option<string>
        if (Option.isSome(path)) yield* readableByAll(`--${name}`, path.value)
      }
      yield* Effect.annotateLogs(Effect.logInfo(divided(policy, workers)), { event: "workers", workers })
    }
    const kept = Workers.run({ workers, policy })(serving)
    yield* Effect.catchIf(kept, (error) => error instanceof Workers.WorkerLost, ending)
  }).pipe(
    Effect.provide(Layer.merge(Logger.layer([logger]), Layer.succeed(Logger.LogToStderr, true)))
  )
}
