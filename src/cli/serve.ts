/** `holdfast serve`: an echo or hub server on any number of addresses. */
import { map } from "effect/Array"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as SocketServer from "effect/socket/SocketServer"
import * as Listener from "../node/Listener.ts"
import * as Workers from "../node/Workers.ts"
import * as Server from "../Server.ts"
import { adminFlags, adminOf, measured, withAdmin } from "./admin.ts"
import { renewing, tlsOf } from "./certificates.ts"
import { CommandFailed } from "./CommandFailed.ts"
import { onHangUp, stop } from "./hangUp.ts"
import { members } from "./hub.ts"
import { addressesOf, allTaken, isSecure, listenFlags, secured } from "./listenFlags.ts"
import { jsonLogger, prettyLogger } from "./loggers.ts"
import { nativeBelow, policyFlags, policyOf } from "./policyFlags.ts"
import { progress } from "./progress.ts"
import { asFlags, behindFlags, behindOptions } from "./proxyFlags.ts"
import { logDraining, logEvent, refusalBound } from "./serveLogs.ts"
import * as Speech from "./speech.ts"
import { inWorkers, saysListening, shared, workersFlag } from "./workers.ts"

const file = (name: string, description: string) =>
  Flag.String(name).pipe(Flag.withMetavar("FILE"), Flag.withDescription(description), Flag.optional)

const flags = {
  listen: listenFlags,
  cert: file("cert", "Certificate chain for tls and wss, PEM; read again when it changes (within 10 s), and on SIGHUP"),
  key: file("key", "Private key of --cert, PEM"),
  ca: file("ca", "Ask clients of tls and wss for a certificate signed by these authorities, PEM"),
  protocol: Flag.Literals("protocol", Speech.protocols).pipe(
    Flag.withDescription(
      "What is spoken where --listen does not say it. lines: text ended by a newline, with ping and pong; frames: bytes behind a 4-byte big-endian length; " +
        "native: text in Holdfast's own protocol, which tells clients when to ping and when to come back " +
        "(default lines)"
    ),
    Flag.withDefault("lines" as const)
  ),
  mode: Flag.Literals("mode", ["echo", "hub"]).pipe(
    Flag.withDescription(
      "echo: answer each message with itself; hub: send it to all others, and tell the sender when it is no message on the " +
        "transport of some (default echo)"
    ),
    Flag.withDefault("echo" as const)
  ),
  log: Flag.Literals("log", ["pretty", "json"]).pipe(
    Flag.withDescription("How connections are logged on the error stream (default pretty)"),
    Flag.withDefault("pretty" as const)
  ),
  origin: Flag.String("origin").pipe(
    Flag.withMetavar("ORIGIN"),
    Flag.withDescription(
      "Whose pages may open a WebSocket: https://HOST[:PORT], same-host, null, or any; repeat it for several " +
        "(default same-host)"
    ),
    Flag.atLeast(0)
  ),
  subprotocol: Flag.String("subprotocol").pipe(
    Flag.withMetavar("NAME"),
    Flag.withDescription(
      "A WebSocket subprotocol to agree to; repeat it for several, the one liked best first (default none)"
    ),
    Flag.atLeast(0)
  ),
  behind: behindFlags,
  deflate: Flag.Boolean("deflate").pipe(
    Flag.withoutNegation,
    Flag.withDescription(
      "Compress WebSocket messages of 1 KiB and more, with clients that offer it (permessage-deflate); --max-frame bounds what a " +
        "message inflates to (default off)"
    ),
    Flag.withDefault(false)
  ),
  ...adminFlags,
  workers: workersFlag,
  ...policyFlags("serve")
}

export const serve = Command.make(
  "serve",
  flags,
  Effect.fnUntraced(
    function*({
      admin,
      adminToken,
      behind,
      ca,
      cert,
      deflate,
      key,
      listen,
      log,
      mode,
      noAdmin,
      origin,
      protocol,
      subprotocol,
      workers: _,
      ...limits
    }) {
      const policy = yield* shared(policyOf(limits))
      const plan = yield* adminOf({ admin, adminToken, log, noAdmin })
      const tls = yield* tlsOf({ cert, key, ca })
      if (tls.certificates !== undefined) yield* onHangUp(renewing(tls.certificates))
      // workers are renewed by their parent
      else if (Workers.self() === undefined) yield* onHangUp(stop)
      const addresses = yield* addressesOf(listen)
      yield* secured(addresses.map(({ url }) => url), { cert, key, ca })
      const spoken = addresses.map((address) => address.protocol ?? protocol)
      const names = new Set(spoken)
      const listeners = yield* Effect.forEach(addresses, ({ protocol: _, url, ...binding }, i) =>
        Listener.make(url, {
          ...binding,
          ...(isSecure(url) ? tls : {}),
          deflate,
          origins: origin.length === 0 ? "same-host" : origin.includes("any") ? "any" : origin,
          subprotocols: subprotocol,
          ...behindOptions(behind),
          policy: spoken[i] === "native" ? nativeBelow(policy) : policy
        }).pipe(Effect.mapError((error) => new CommandFailed({ message: `--listen: ${asFlags(error.message)}` }))))
      yield* allTaken

      // how many clients would come back, were we to die now
      let live = 0
      const count = (event: Server.Event): void => {
        if (event._tag === "Opened") live++
        // when we stop, the last to hear of it is told the same as the first
        if (event._tag === "Closed" && event.snapshot.reason?._tag !== "GoingAway") live--
      }
      const bound = refusalBound()
      const toLog = logEvent(log, Speech.linesAt(listeners, spoken))
      const run = Effect.fnUntraced(function*<A>({ open, say }: Speech.Speech<A>) {
        const { registry, tell } = yield* members<A>(mode)
        const server = Server.make({
          open,
          registry,
          policy,
          // each event is a line already
          logs: false,
          onEvent: (event) => {
            count(event)
            if (event._tag !== "Refused") return toLog(event)
            const untold = bound()
            if (untold === undefined) return Effect.void
            const line = toLog(event)
            if (untold === 0) return line
            const more = Effect.logWarning(`refused ${untold} more connections`)
            return Effect.andThen(Effect.annotateLogs(more, { event: "refused-more", untold }), line)
          },
          onDrain: logDraining(log),
          // one generator function for all connections: V8 keeps one that is made for each, with its connection
          handle: Effect.fnUntraced(function*(connection) {
            while (true) {
              const messages = yield* connection.receiveAll
              if (mode === "echo") {
                yield* connection.sendAll(messages)
                continue
              }
              yield* tell(messages, connection.id, (text) => connection.send(say(text)))
            }
          })
        })
        return yield* withAdmin(plan, { registry, servers: { serve: server }, policies: { serve: policy } }, server.run)
      })

      const options = { policy, live: () => live }
      const server = !names.has("frames")
        ? run(Speech.text(names, options))
        : names.size === 1
        ? run(Speech.bytes(options))
        : run(Speech.either(options))
      const merged = Listener.merge(
        names.size === 1 ? listeners : map(listeners, (one, i) => Speech.speaking(one, spoken[i]!))
      )

      for (const [i, { url }] of saysListening() ? listeners.entries() : []) {
        yield* Console.log(`listening ${url}${names.size === 1 ? "" : ` (${spoken[i]})`}`)
      }
      yield* Effect.provideService(server, SocketServer.SocketServer, merged).pipe(
        measured(plan),
        Effect.ensuring(Effect.sync(() => progress.clear())),
        Effect.provide(
          Layer.merge(
            Logger.layer([log === "json" ? Logger.withConsoleError(jsonLogger) : prettyLogger()]),
            Layer.succeed(Logger.LogToStderr, true)
          )
        )
      )
    },
    Effect.scoped,
    inWorkers
  )
).pipe(
  Command.withDescription(
    "Runs an echo or hub server. SIGINT and SIGTERM stop it, and so does SIGHUP (a terminal that closes) without --workers or --cert: it accepts nothing more, answers what it has, and exits with 0, or with 1 when " +
      "that took longer than --drain; a second signal exits at once."
  ),
  Command.withShortDescription("Run an echo or hub server"),
  Command.withExamples([
    { command: "holdfast serve", description: "Echo lines on tcp://127.0.0.1:7000; try: nc 127.0.0.1 7000" },
    {
      command: "holdfast serve --listen tcp://0.0.0.0:7000 --listen ws://0.0.0.0:7001/chat --mode hub",
      description: "A chat that nc and browsers share"
    },
    {
      command: "holdfast serve --listen tls://0.0.0.0:7002 --cert cert.pem --key key.pem --silence 30s",
      description: "TLS, and a dead peer is gone after 30 seconds"
    },
    {
      command: "holdfast serve --listen tcp://0.0.0.0:7000 --listen native+tcp://0.0.0.0:7003 --mode hub",
      description: "Lines on one port and the native protocol on another, in one chat"
    },
    {
      command: "holdfast serve --protocol native --mode hub",
      description: "A chat for holdfast connect --protocol native, whose clients come back spread after a crash"
    }
  ])
)
