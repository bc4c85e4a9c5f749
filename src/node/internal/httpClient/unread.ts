/** Answers whose body the application never begins to read: they end, so that they do not hold a connection for ever. */
import Undici from "@effect/platform-node/Undici"
import { seconds } from "../../../internal/reasons/text.ts"

type Request = Undici.Dispatcher["request"]
type RequestOptions = Parameters<Request>[0]
type Answer = Undici.Dispatcher.ResponseData

/** What an answer is called in a log: no query, which may hold a secret. */
const nameOf = ({ method, origin, path }: RequestOptions): string => `${method} ${origin}${path.split("?", 1)[0]}`

const isWhole = ({ body, headers }: Answer): boolean => Number(headers["content-length"]) === body.readableLength

/** Destroys a body that fills its buffer, and of which nothing was read for so many milliseconds; `unread` is told. */
const watch = (answer: Answer, options: RequestOptions, limit: number, unread: (message: string) => void): void => {
  const { body } = answer
  // the usual answer came with its head, and holds no connection
  if (body.destroyed || isWhole(answer)) return
  // an answer that came whole and is dropped unread stays collectable
  const held = new WeakRef(body)
  const timer = setInterval(() => {
    const body = held.deref()
    if (body === undefined || body.bodyUsed) return clearInterval(timer)
    if (body.readableLength < body.readableHighWaterMark) return
    const what = `the body of the answer to ${nameOf(options)} was not read for ${seconds(limit)}`
    unread(`${what}: its connection is closed`)
    body.destroy(new Undici.errors.BodyTimeoutError(what))
  }, limit)
  timer.unref()
  body.once("close", () => clearInterval(timer))
}

/** Follows the bodies of all answers of an agent. */
export const follow = (agent: Undici.Agent, limit: number, unread: (message: string) => void): void => {
  if (limit === 0) return
  const request = agent.request
  // called on the agent, or on what was composed of it
  agent.request = async function(this: Undici.Dispatcher, options: RequestOptions) {
    const answer = await (request.call(this, options) as Promise<Answer>)
    watch(answer, options, limit, unread)
    return answer
  } as Request
}
