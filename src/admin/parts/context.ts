/** What all parts of the page use: what it knows, the API, and the theme. */
import { createContext } from "preact"
import { useContext, useEffect, useState } from "preact/hooks"
import type { Api } from "../model/api.ts"
import type { Model, State } from "../model/model.ts"

export interface App {
  readonly model: Model
  readonly api: Api
  /** Says something to a person who does not see the page, and to one who does. */
  readonly say: (text: string) => void
  /** Moves on when colours have changed. */
  readonly colours: number
}

export const AppContext = createContext<App | undefined>(undefined)

export const useApp = (): App => useContext(AppContext)!

const everything = (): object => ({})

/** Draws again when what the page knows has changed, as far as `part` tells. */
export const useModel = (part: (state: State) => unknown = everything): State => {
  const { model } = useApp()
  const [, draw] = useState<unknown>(undefined)
  useEffect(() => model.subscribe(() => draw(part(model.state))), [model])
  return model.state
}

export interface Polled<A> {
  readonly data: A | undefined
  readonly error: unknown
  /** When it was read, on the clock of the page. */
  readonly at: number
  readonly refresh: () => void
}

/** Reads a path again and again, with `every` milliseconds between an answer and the next question. */
export const usePoll = <A>(path: string | undefined, every: number, query: object = {}): Polled<A> => {
  const { api } = useApp()
  const [read, setRead] = useState<Omit<Polled<A>, "refresh"> & { readonly of: string }>({
    data: undefined,
    error: undefined,
    at: 0,
    of: ""
  })
  const [asked, setAsked] = useState(0)
  const of = `${path} ${JSON.stringify(query)}`
  useEffect(() => {
    if (path === undefined) return
    const stop = new AbortController()
    let timer: ReturnType<typeof setTimeout> | undefined
    const again = (): void => {
      if (!stop.signal.aborted) timer = setTimeout(ask, every)
    }
    const ask = (): void => {
      api.get<A>(path, query, stop.signal).then(
        (data) => {
          if (!stop.signal.aborted) setRead({ data, error: undefined, at: performance.now(), of })
        },
        (error: unknown) => {
          if (!stop.signal.aborted) {
            setRead((last) => ({ ...last, data: last.of === of ? last.data : undefined, error, of }))
          }
        }
      ).finally(again)
    }
    ask()
    return () => {
      stop.abort()
      clearTimeout(timer)
    }
  }, [api, of, every, asked])
  // what was read of another path is nothing of this one
  const { data, error, at } = read.of === of ? read : { data: undefined, error: undefined, at: 0 }
  return { data, error, at, refresh: () => setAsked((asked) => asked + 1) }
}
