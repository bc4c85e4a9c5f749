/** The server's side of upgrades: who is let in, who is refused, and the last step to the WebSocket. */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Http from "node:http"
import type * as Net from "node:net"
import type { Duplex } from "node:stream"
import * as Defects from "../../../internal/endings/defects.ts"
import { spawn } from "../../../internal/scheduling/supervised.ts"
import { Refused } from "../../Upgrade.ts"
import { answerTo } from "../deflate/negotiation.ts"
import { longestTimer } from "../options.ts"
import { linger } from "../stream/tcp.ts"
import type { Accepted } from "../upgrade/accepted.ts"
import { answering, refuse, whenAnswered } from "../upgrade/answer.ts"
import { type Answer, unavailable } from "../upgrade/form.ts"
import { Asked, type Below } from "../upgrade/request.ts"
import { acceptOf } from "./key.ts"
import { refusalBy, type Rule, type Rules } from "./rules.ts"

/** Gets the stream of a WebSocket, which nothing reads from. */
export type OnOpen = (stream: Duplex, accepted: Accepted, source: Http.IncomingMessage) => void

/** What holds for all upgrades of a server. */
export interface Upgrading<R> {
  readonly rules: Rules<R>
  /** In which hooks run. */
  readonly context: Context.Context<R>
  /** How long a hook may take, in milliseconds. */
  readonly limit: number
  readonly linger: number
  /** Told of a stream once the answers before have left: what comes on it from then on is no request. */
  readonly onTaken?: ((stream: Duplex) => void) | undefined
}

/** The last step: the answer, with what was agreed to. What comes next on the stream are frames. */
const complete = (
  stream: Duplex,
  head: Buffer,
  { source, subprotocol }: Asked,
  extensions: string | undefined
): void => {
  const protocol = (subprotocol === undefined ? "" : `Sec-WebSocket-Protocol: ${subprotocol}\r\n`) +
    (extensions === undefined ? "" : `Sec-WebSocket-Extensions: ${extensions}\r\n`)
  stream.write(
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
      `Sec-WebSocket-Accept: ${acceptOf(source.headers["sec-websocket-key"]!)}\r\n${protocol}\r\n`
  )
  const socket = stream as Net.Socket
  // an HTTP server has set one
  socket.setTimeout(0)
  if (head.length > 0) stream.unshift(head)
}

/**
 * Calls back once the peer is gone: the connection is closed, or the peer has ended its side and sent nothing that a
 * WebSocket could answer. Bytes that come meanwhile stay in the stream, up to its own bound. Returns what stops the watch.
 */
const whenGone = (stream: Duplex, head: Buffer, gone: () => void): () => void => {
  // a stream tells of its end only to what reads it
  const look = (): void => {
    if (stream.readableLength === 0) stream.read()
  }
  stream.once("close", gone)
  if (head.length === 0) {
    stream.once("end", gone)
    stream.on("readable", look)
  }
  return () => {
    stream.off("close", gone)
    stream.off("end", gone)
    stream.off("readable", look)
  }
}

/** Every answer of a hook: the facts it found out, a refusal, a defect, or none at all (its time is over, or the peer left). */
type Verdict = Exit.Exit<Option.Option<unknown>, Refused>

/** Runs the hook of a path, and calls back once with what became of it; at once where the hook does not wait. */
const deciding = <R>(
  { context, limit }: Upgrading<R>,
  { hook }: NonNullable<Rule<R>["upgrade"]>,
  asked: Asked,
  stream: Duplex,
  head: Buffer,
  onVerdict: (verdict: Verdict) => void
): void => {
  let verdict: Verdict | undefined
  let later: ((verdict: Verdict) => void) | undefined = undefined
  const decide = hook(asked)
  const bounded = limit < longestTimer ? Effect.timeoutOption(decide, limit) : Effect.asSome(decide)
  const fiber = spawn(context, "upgrade", bounded, (exit) => {
    verdict = exit
    later?.(exit)
  })
  if (verdict !== undefined) return onVerdict(verdict)
  const unwatch = whenGone(stream, head, () => fiber.interruptUnsafe())
  later = (exit) => {
    unwatch()
    // a stream goes over from `readable` to `data` in the next tick
    process.nextTick(onVerdict, exit)
  }
}

/** Takes requests on one of the paths. `onOpen` is called, or the connection ends. */
export const upgrading = <R>(
  options: Upgrading<R>
): (request: Http.IncomingMessage, stream: Duplex, head: Buffer, below: Partial<Below>, onOpen: OnOpen) => void => {
  const log = (asked: Asked, cause: Cause.Cause<unknown>): void =>
    Defects.logNow(options.context as Context.Context<never>, "upgrade", cause, { remote: asked.remote })

  return (request, stream, head, below, onOpen) => {
    below.onRequest?.(request)
    const answer = (given: Answer): void => {
      below.answered?.(given.status)
      refuse(request, stream, given, options.linger)
    }
    const asked = new Asked(request, below)
    const failed = (cause: Cause.Cause<unknown>): void => {
      log(asked, cause)
      answer({ status: 500 })
    }
    // it asked for something else first, and was not told to go on: it gets those answers
    if (answering(stream) !== undefined) {
      return whenAnswered(stream, () => {
        options.onTaken?.(stream)
        linger(stream, options.linger)
      })
    }
    options.onTaken?.(stream)
    const isRefused = (): boolean => {
      const { refusal } = below
      if (refusal !== undefined) answer(unavailable(refusal))
      return refusal !== undefined
    }
    const wrong = refusalBy(options.rules, request)
    if (wrong !== undefined) return answer(wrong)
    if (isRefused()) return

    const { deflate, isAllowed, subprotocols, upgrade } = options.rules.get(asked.path)!
    const letIn = (session: unknown): void => {
      // the server may have begun to stop while the hook ran
      if (upgrade !== undefined && isRefused()) return
      asked.subprotocol ??= subprotocols.find((one) => asked.subprotocols.includes(one))
      const answered = answerTo(deflate, request.headers["sec-websocket-extensions"])
      complete(stream, head, asked, answered?.header)
      asked.settle()
      onOpen(stream, { request: asked, by: upgrade, session, compression: answered?.compression }, request)
    }
    const refused = (refusal: Refused): void => {
      try {
        answer(refusal)
      } catch (thrown) {
        // headers that cannot be written
        failed(Cause.die(thrown))
      }
    }
    try {
      if (!isAllowed(asked)) return answer({ status: 403 })
    } catch (thrown) {
      return failed(Cause.die(thrown))
    }
    const decide = (): void => {
      if (upgrade === undefined) return letIn(undefined)
      deciding(options, upgrade, asked, stream, head, (verdict) => {
        if (stream.destroyed) return
        if (Exit.isSuccess(verdict)) {
          if (Option.isSome(verdict.value)) letIn(verdict.value.value)
          else stream.destroy()
          return
        }
        const failure = verdict.cause.reasons.find((reason) => reason._tag === "Fail")
        if (Cause.hasDies(verdict.cause)) failed(verdict.cause)
        else if (failure?._tag === "Fail" && failure.error instanceof Refused) refused(failure.error)
        else if (failure !== undefined) failed(Cause.die(failure.error))
        else stream.destroy()
      })
    }
    if (below.mustWait !== true) return decide()
    const conn = stream as Net.Socket
    // an HTTP server has set one
    conn.setTimeout(0)
    const unwatch = whenGone(stream, head, () => stream.destroy())
    below.onTurn = () => {
      unwatch()
      // as after a hook
      process.nextTick(() => stream.destroyed || isRefused() || decide())
    }
  }
}
