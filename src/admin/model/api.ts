/** Asks the admin API. */
import type { Change } from "../../node/internal/admin/schemas.ts"
import type { Model } from "./model.ts"

/** An answer that is none of what was asked for; `status` 0: there was no answer. */
export class Failed extends Error {
  readonly status: number
  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

// milliseconds that an answer may take
const slowest = 5000

export const noAnswer = "the server does not answer"

const messageOf = async (response: Response): Promise<string> => {
  const body: unknown = await response.json().catch(() => undefined)
  return typeof body === "object" && body !== null && "message" in body && typeof body.message === "string"
    ? body.message
    : `the server answered ${response.status} ${response.statusText}`
}

const withQuery = (path: string, query: object): string => {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== "")
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString()
  return text === "" ? path : `${path}?${text}`
}

export interface Api {
  readonly get: <A>(path: string, query?: object, signal?: AbortSignal) => Promise<A>
  readonly post: <A>(path: string, body: object) => Promise<A>
  readonly patch: <A>(path: string, body: object) => Promise<A>
}

export const makeApi = (locked: () => void): Api => {
  const ask = async <A>(path: string, init: RequestInit): Promise<A> => {
    // a server that is stopped in this moment may answer nothing at all
    const late = AbortSignal.timeout(slowest)
    const signal = init.signal ? AbortSignal.any([init.signal, late]) : late
    const response = await fetch(path, { ...init, signal, cache: "no-store" }).catch((cause: unknown) => {
      if (init.signal?.aborted === true) throw cause
      throw new Failed(0, noAnswer)
    })
    if (response.status === 401) locked()
    if (!response.ok) throw new Failed(response.status, await messageOf(response))
    return await response.json() as A
  }
  const send = <A>(method: string, path: string, body: object): Promise<A> =>
    ask(path, { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) })
  return {
    get: (path, query = {}, signal) => ask(withQuery(path, query), signal === undefined ? {} : { signal }),
    post: (path, body) => send("POST", path, body),
    patch: (path, body) => send("PATCH", path, body)
  }
}

// a page has no runtime of Effect, which is larger than all of it: its clock and its timers are the browser's.
// milliseconds: figures come every second, so that a stream without any is dead
const silence = 6000
const retryAfter = 1000

/** Follows the changes for as long as the page is open, and says how the link is. */
export const follow = (model: Model, api: Api): void => {
  let source: EventSource | undefined
  let heard = performance.now()
  const open = (): void => {
    heard = performance.now()
    const opened = new EventSource("/api/changes")
    source = opened
    opened.addEventListener("message", ({ data }: MessageEvent<string>) => {
      heard = performance.now()
      model.setLink("live")
      model.take(JSON.parse(data) as Change)
    })
    opened.addEventListener("error", lose)
  }
  const lose = (): void => {
    if (source === undefined) return
    source.close()
    source = undefined
    if (model.state.link !== "locked") model.setLink("lost")
    setTimeout(retry, retryAfter)
  }
  // an event source does not say what it was refused with
  const retry = (): void => {
    api.get("/api/figures").then(open, (cause: unknown) => {
      const isLocked = cause instanceof Failed && cause.status === 401
      model.setLink(isLocked ? "locked" : "lost")
      setTimeout(retry, retryAfter)
    })
  }
  setInterval(() => {
    if (performance.now() - heard > silence) lose()
  }, 1000)
  retry()
}
