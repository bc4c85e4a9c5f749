/** Where `serve` listens: its addresses, sockets that systemd or a supervisor passed, and whose a socket file is. */
import { isReadonlyArrayNonEmpty, map, type NonEmptyReadonlyArray, of } from "effect/Array"
import * as CliError from "effect/cli/CliError"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { untaken } from "../node/internal/addresses/activation.ts"
import type * as Listener from "../node/Listener.ts"
import { CommandFailed } from "./CommandFailed.ts"
import { type Name, spokenAt } from "./speech.ts"

/** A flag of which a wrong value says what is expected. */
const read = <A>(
  name: string,
  metavar: string,
  description: string,
  expected: string,
  parse: (text: string) => A | undefined
) =>
  Flag.String(name).pipe(
    Flag.withMetavar(metavar),
    Flag.withDescription(description),
    Flag.mapEffect((value) => {
      const parsed = parse(value)
      return parsed === undefined
        ? Effect.fail(new CliError.InvalidValue({ option: name, value, expected, kind: "flag" }))
        : Effect.succeed(parsed)
    }),
    Flag.optional
  )

const numberOf = (text: string): number | undefined => text === "" ? undefined : Number(text)

export const listenFlags = {
  urls: Flag.String("listen").pipe(
    Flag.withAlias("l"),
    Flag.withMetavar("URL"),
    Flag.withDescription(
      "Where to listen: tcp://HOST:PORT, tls://HOST:PORT, unix:///PATH, unix://@NAME (abstract, Linux), ws://HOST:PORT/PATH, " +
        "wss://HOST:PORT/PATH; port 0 picks one; native+tcp://HOST:PORT speaks another protocol there than --protocol says; behind " +
        "systemd: or systemd:NAME: the socket that systemd passed, behind fd:N: the descriptor N; repeat it for several (default " +
        "tcp://127.0.0.1:7000)"
    ),
    Flag.atLeast(0)
  ),
  mode: read(
    "socket-mode",
    "MODE",
    "Who may connect to a Unix socket, as the mode of its file, such as 660 (default what the umask leaves)",
    "an octal mode such as 660",
    (text) => /^[0-7]{1,4}$/.test(text) && Number.parseInt(text, 8) <= 0o777 ? Number.parseInt(text, 8) : undefined
  ),
  owner: read(
    "socket-owner",
    "UID:GID",
    "Whose the file of a Unix socket is, by number; either may be left out, as in :33 (default ours)",
    "numbers such as 1000:33, 1000 or :33",
    (text): Listener.BindOptions["owner"] => {
      const [, uid, gid = ""] = /^(\d{0,10})(?::(\d{0,10}))?$/.exec(text) ?? []
      return uid === undefined || uid + gid === "" ? undefined : { uid: numberOf(uid), gid: numberOf(gid) }
    }
  )
}

interface Given {
  readonly urls: ReadonlyArray<string>
  readonly mode: Option.Option<number>
  readonly owner: Option.Option<Listener.BindOptions["owner"]>
}

interface Bound extends Listener.BindOptions {
  readonly url: string
  /** What it speaks, where its address says so. */
  readonly protocol: Name | undefined
}

/** Whether what is sent there is encrypted. */
export const isSecure = (url: string): boolean => /^(tls|wss):/i.test(url)

const isFile = (url: string): boolean => /^(?:[a-z]+\+)?unix:\/\/\//i.test(url)

const boundTo = Effect.fnUntraced(function*(text: string, of: Pick<Bound, "mode" | "owner">) {
  const [, fd, systemd, name, rest = text] = /^(?:fd:(\d+):|(systemd):(?:([^:]+):)?)([a-z+]+:.*)$/is.exec(text) ?? []
  const spoken = yield* spokenAt(rest, "--listen")
  if (fd !== undefined) return { ...spoken, fd: Number(fd) } satisfies Bound
  if (systemd !== undefined) {
    return { ...spoken, fd: name === undefined ? "systemd" as const : `systemd:${name}` as const } satisfies Bound
  }
  return (isFile(spoken.url) ? { ...spoken, ...of } : spoken) satisfies Bound
})

/** The addresses, each with how it is bound. */
export const addressesOf = Effect.fnUntraced(function*(given: Given) {
  const urls = isReadonlyArrayNonEmpty(given.urls) ? given.urls : of("tcp://127.0.0.1:7000")
  const lost = (["mode", "owner"] as const).find((name) => Option.isSome<unknown>(given[name]))
  if (lost !== undefined && !urls.some(isFile)) {
    return yield* new CommandFailed({ message: `--socket-${lost} is for a socket file: --listen unix:///PATH` })
  }
  const ofFile = { mode: Option.getOrUndefined(given.mode), owner: Option.getOrUndefined(given.owner) }
  const bound: NonEmptyReadonlyArray<Effect.Effect<Bound, CommandFailed>> = map(urls, (url) => boundTo(url, ofFile))
  return yield* Effect.all(bound)
})

/** What a flag of certificates is for; without such an address all would be sent in the clear. */
export const secured = (urls: ReadonlyArray<string>, files: Readonly<Record<string, Option.Option<string>>>) => {
  const given = Object.keys(files).find((name) => Option.isSome(files[name]!))
  return given === undefined || urls.some((url) => isSecure(url)) ? Effect.void : Effect.fail(
    new CommandFailed({ message: `--${given} is for tls:// and wss://: --listen tls://HOST:PORT` })
  )
}

/** Clients of a socket that systemd holds open and nothing accepts from would wait for ever. */
export const allTaken = Effect.suspend(() => {
  const left = untaken()
  return left === "" ? Effect.void : Effect.fail(
    new CommandFailed({
      message:
        `--listen takes nothing from what systemd passed: ${left}; write --listen systemd:NAME:URL for each of them`
    })
  )
})
