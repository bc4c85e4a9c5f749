/** Small things that several views show. */
import type { ComponentChildren } from "preact"
import { useEffect, useState } from "preact/hooks"
import { span } from "../../node/internal/admin/shown/format.ts"

export const Fact = ({ children, name }: { readonly name: string; readonly children: ComponentChildren }) => (
  <div class="fact">
    <dt>{name}</dt>
    <dd>{children}</dd>
  </div>
)

export const Problem = ({ error }: { readonly error: unknown }) =>
  error === undefined ? null : <p class="error">{error instanceof Error ? error.message : String(error)}</p>

export const Empty = ({ children }: { readonly children: ComponentChildren }) => <p class="empty">{children}</p>

/** A share of a whole as a bar; the text beside it says the same. */
export const Bar = ({ share, tone = "plain" }: { readonly share: number; readonly tone?: string }) => (
  <span class={`bar ${tone}`} aria-hidden="true">
    <span style={{ width: `${Math.max(0, Math.min(1, share)) * 100}%` }} />
  </span>
)

/** Draws again every so many milliseconds; gives back the clock of the page. */
export const useClock = (every: number): number => {
  const [now, setNow] = useState(() => performance.now())
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), every)
    return () => clearInterval(timer)
  }, [every])
  return now
}

const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
  hourCycle: "h23"
})

/** A moment on the wall clock. */
export const Moment = ({ at }: { readonly at: number }) => (
  <time dateTime={new Date(at).toISOString()}>{clock.format(at)}</time>
)

export const Timeline = ({ recent }: {
  readonly recent: ReadonlyArray<
    { readonly at: number; readonly what: string; readonly detail: string | null; readonly times: number }
  >
}) =>
  recent.length === 0
    ? <Empty>Nothing yet that is remembered.</Empty>
    : (
      <ol class="timeline">
        {recent.map(({ at, detail, times, what }, index) => (
          <li key={index}>
            <Moment at={at} />
            <span class="since">
              {index === 0 ? "" : `+${span(Math.max(0, at - recent[index - 1]!.at))}`}
            </span>
            <span class="what">
              <b>{what}</b>
              {times > 1 ? ` × ${times}` : ""}
              {detail === null ? "" : ` ${detail}`}
            </span>
          </li>
        ))}
      </ol>
    )
