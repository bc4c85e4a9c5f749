/** The peer that `connect` and `probe` talk to: its address, its certificates, its protocol. */
import * as Argument from "effect/cli/Argument"
import * as CliError from "effect/cli/CliError"
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as ConnectionError from "../ConnectionError.ts"
import { lacksUnit, needsUnit } from "../internal/limits/definition.ts"
import * as Dialer from "../node/Dialer.ts"
import type * as Policy from "../Policy.ts"
import { parseDuration } from "../Policy.ts"
import { CommandFailed, fileProblem } from "./CommandFailed.ts"
import { nativeBelow } from "./policyFlags.ts"

/** A PEM file. */
export const file = (name: string, description: string) =>
  Flag.String(name).pipe(Flag.withMetavar("FILE"), Flag.withDescription(description), Flag.optional)

/** A duration that is not part of a policy. */
export const duration = (name: string, otherwise: string, description: string) =>
  Flag.String(name).pipe(
    Flag.withMetavar("DURATION"),
    Flag.withDescription(`${description} (default ${otherwise})`),
    Flag.withDefault(otherwise),
    Flag.mapEffect((text) => {
      const read = parseDuration(text)
      return Option.isSome(read) && Duration.toMillis(read.value) >= 0 && !lacksUnit(text)
        ? Effect.succeed(Duration.toMillis(read.value))
        : Effect.fail(
          new CliError.InvalidValue({
            option: name,
            value: text,
            expected: lacksUnit(text) ? needsUnit(text) : "a duration such as \"500ms\", \"25s\" or \"1m 30s\"",
            kind: "flag"
          })
        )
    })
  )

/** A whole number, not less than the minimum. */
export const whole = (name: string, otherwise: number, minimum: number, description: string) =>
  Flag.String(name).pipe(
    Flag.withMetavar("N"),
    Flag.withDescription(`${description} (default ${otherwise})`),
    Flag.withDefault(String(otherwise)),
    Flag.mapEffect((text) =>
      /^\d{1,9}$/.test(text) && Number(text) >= minimum
        ? Effect.succeed(Number(text))
        : Effect.fail(
          new CliError.InvalidValue({
            option: name,
            value: text,
            expected: `a whole number, at least ${minimum}`,
            kind: "flag"
          })
        )
    )
  )

export const url = Argument.String("url").pipe(
  Argument.withMetavar("URL"),
  Argument.withDescription(
    "Where to: tcp://HOST:PORT, tls://HOST:PORT, unix:///PATH, ws://HOST:PORT/PATH, wss://HOST:PORT/PATH"
  )
)

export const peerFlags = {
  protocol: Flag.Literals("protocol", ["lines", "frames", "native"]).pipe(
    Flag.withDescription(
      "lines: text ended by a newline, with ping and pong; frames: text behind a 4-byte big-endian length; " +
        "native: text in Holdfast's own protocol (default lines)"
    ),
    Flag.withDefault("lines" as const)
  ),
  ca: file("ca", "Whom to trust (tls, wss) instead of the usual authorities, PEM"),
  cert: file("cert", "Our certificate for a server that asks for one, PEM"),
  key: file("key", "Private key of --cert, PEM"),
  servername: Flag.String("servername").pipe(
    Flag.withMetavar("NAME"),
    Flag.withDescription("The name to ask for and to find in the server's certificate, instead of the URL's"),
    Flag.optional
  ),
  insecure: Flag.Boolean("insecure").pipe(
    Flag.withoutNegation,
    Flag.withDescription("Take any certificate, such as a self-signed one; a machine in between can read along"),
    Flag.withDefault(false)
  )
}

export type Protocol = "lines" | "frames" | "native"

interface DialFlags {
  readonly protocol: Protocol
  readonly ca: Option.Option<string>
  readonly cert: Option.Option<string>
  readonly key: Option.Option<string>
  readonly servername: Option.Option<string>
  readonly insecure: boolean
}

const readFile = Effect.fnUntraced(function*(flag: string, path: Option.Option<string>) {
  if (Option.isNone(path)) return undefined
  const files = yield* FileSystem.FileSystem
  return yield* Effect.mapError(files.readFileString(path.value), fileProblem(flag, path.value))
})

/** Makes a fresh socket each time; what is wrong with the URL or a certificate is told here, and only here. */
export const dialer = Effect.fnUntraced(function*(url: string, given: DialFlags, policy: Policy.Policy) {
  const secure = /^(tls|wss):/i.test(url)
  const options: Dialer.DialOptions = {
    ...(secure
      ? {
        ca: yield* readFile("--ca", given.ca),
        cert: yield* readFile("--cert", given.cert),
        key: yield* readFile("--key", given.key),
        servername: Option.getOrUndefined(given.servername),
        rejectUnauthorized: !given.insecure
      }
      : {}),
    policy: given.protocol === "native" ? nativeBelow(policy) : policy
  }
  const dial = Dialer.make(url, options)
  yield* Effect.mapError(dial, (error) =>
    new CommandFailed({
      // its options are flags here
      message: error.message.replace(/`(cert|key|ca)`/g, "--$1")
    }))
  return Effect.orDie(dial)
})

/** Why, as the end of a sentence. */
export const because = (error: ConnectionError.ConnectionError): string =>
  error.message.replace(/^could not open the connection: /, "").replace(/^closed by /, "by ")
