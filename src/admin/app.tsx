/** The page around its views: where one is, how the link to the server is, and the theme. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks"
import { count } from "../node/internal/admin/shown/format.ts"
import { silentOf } from "../node/internal/admin/shown/silent.ts"
import type { Api } from "./model/api.ts"
import type { Link, Model } from "./model/model.ts"
import { AppContext, useModel } from "./parts/context.ts"
import { setTheme, themeAfter, themeNow } from "./parts/theme.ts"
import { Connections } from "./views/connections.tsx"
import { Detail } from "./views/detail.tsx"
import { Drain } from "./views/drain.tsx"
import { Ended } from "./views/ended.tsx"
import { Policies } from "./views/policies.tsx"
import { Program } from "./views/program.tsx"

const views = [
  ["", "Connections"],
  ["ended", "Ended"],
  ["program", "Program"],
  ["policies", "Policies"],
  ["drain", "Drain"]
] as const

const placeNow = (): string => location.hash.replace(/^#\/?/, "")

const usePlace = (): string => {
  const [place, setPlace] = useState(placeNow)
  useEffect(() => {
    const moved = (): void => setPlace(placeNow())
    addEventListener("hashchange", moved)
    return () => removeEventListener("hashchange", moved)
  }, [])
  return place
}

const links: Readonly<Record<Link, string>> = {
  connecting: "connecting",
  live: "live",
  lost: "no answer",
  locked: "locked"
}

const Notice = () => {
  const { drained, figures, link } = useModel(({ figures, link }) =>
    `${link} ${figures === undefined} ${silentOf(figures)}`
  )
  if (link === "locked") {
    return (
      <div class="notice" role="alert">
        <b>The server asks for a token that this page does not have.</b>{" "}
        It may have started again: open the address that it printed (<code>holdfast serve</code>{" "}
        prints “admin http://…/?token=…”).
      </div>
    )
  }
  if (link === "lost") {
    return (
      <div class="notice" role="alert">
        <b>{drained ? "The server was drained and has stopped." : "The server does not answer."}</b>{" "}
        {figures === undefined ? "" : "What is shown is what was known last. "}This page tries again every second.
      </div>
    )
  }
  const silent = silentOf(figures)
  return silent === "" ? null : (
    <div class="notice" role="alert">
      <b>No answer from {silent}.</b>{" "}
      It is counted as it was when it answered last, and its connections are not listed. It hangs, or is very busy.
    </div>
  )
}

const Status = () => {
  const { figures, link } = useModel(({ figures, link }) => `${link} ${figures?.at}`)
  return (
    <>
      <span class={`link ${link}`} role="status">{links[link]}</span>
      {figures === undefined ? undefined : (
        <span class="dim number counts">
          {count(figures.connections.open)} open
          {figures.connections.draining > 0 ? `, ${count(figures.connections.draining)} draining` : ""}
          {figures.connections.closing > 0 ? `, ${count(figures.connections.closing)} closing` : ""}
          {figures.workers === undefined ? "" : `, ${count(figures.workers.length)} workers`}
        </span>
      )}
    </>
  )
}

const View = ({ place }: { readonly place: string }) => {
  const connection = /^connection\/(\d{1,15})$/.exec(place)
  if (connection !== null) return <Detail id={Number(connection[1])} />
  switch (place) {
    case "ended":
      return <Ended />
    case "program":
      return <Program />
    case "policies":
      return <Policies />
    case "drain":
      return <Drain />
    default:
      return <Connections open={(id) => (location.hash = `#/connection/${id}`)} />
  }
}

/** Moves the focus to what a new view is called, and not on the first one. */
const useFocusOn = (place: string): void => {
  const isFirst = useRef(true)
  useEffect(() => {
    if (isFirst.current) isFirst.current = false
    else document.querySelector<HTMLElement>("main h2[tabindex], main [role=grid]")?.focus({ preventScroll: true })
    scrollTo(0, 0)
  }, [place])
}

const useColours = (): readonly [number, () => void] => {
  const [colours, setColours] = useState(0)
  const changed = (): void => setColours((colours) => colours + 1)
  useEffect(() => {
    const dark = matchMedia("(prefers-color-scheme: dark)")
    dark.addEventListener("change", changed)
    return () => dark.removeEventListener("change", changed)
  }, [])
  return [colours, changed]
}

export const Page = ({ api, model }: { readonly model: Model; readonly api: Api }) => {
  const place = usePlace()
  const [theme, choose] = useState(themeNow)
  const [colours, recolour] = useColours()
  const [said, say] = useState("")
  const app = useMemo(() => ({ api, colours, model, say }), [api, colours, model])
  useFocusOn(place)
  const isHere = (name: string): boolean => place === name || (name === "" && place.startsWith("connection/"))
  return (
    <AppContext.Provider value={app}>
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault()
          document.querySelector<HTMLElement>("main")?.focus()
        }}
      >
        To the content
      </a>
      <header>
        <h1>Holdfast</h1>
        <Status />
        <nav aria-label="Views">
          {views.map(([name, title]) => (
            <a key={name} href={`#/${name}`} {...(isHere(name) ? { "aria-current": "page" as const } : {})}>{title}</a>
          ))}
        </nav>
        <button
          type="button"
          class="theme"
          onClick={() => {
            const next = themeAfter(theme)
            setTheme(next)
            choose(next)
            recolour()
          }}
        >
          Theme: {theme}
        </button>
      </header>
      <Notice />
      <p class="unseen" role="status">{said}</p>
      <main tabIndex={-1}>
        <View place={place} />
      </main>
    </AppContext.Provider>
  )
}
