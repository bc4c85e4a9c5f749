/** The first view: charts, and the connections that are open. */
import { useEffect, useState } from "preact/hooks"
import type { Page, Query } from "../../node/internal/admin/schemas.ts"
import { count } from "../../node/internal/admin/shown/format.ts"
import { makeRows } from "../model/rows.ts"
import type { Rows } from "../model/rows.ts"
import { Empty, Problem } from "../parts/bits.tsx"
import { ClosingMany } from "../parts/closing.tsx"
import { useApp, useModel } from "../parts/context.ts"
import { Charts } from "./charts.tsx"
import { Table } from "./table.tsx"
import type { Sort } from "./table.tsx"

// milliseconds
const tickEvery = 200

const useRows = (query: Query): Rows => {
  const { api, model } = useApp()
  const [, draw] = useState(0)
  const [rows] = useState(() =>
    makeRows(
      (query, signal) => api.get<Page>("/api/connections", query, signal),
      () => draw((drawn) => drawn + 1),
      () => performance.now()
    )
  )
  const asked = JSON.stringify(query)
  useEffect(() => rows.ask(query), [asked])
  useEffect(() => {
    let renewed = model.state.renewed
    const timer = setInterval(() => {
      const { link, listed, renewed: now } = model.state
      if (link !== "live") return
      if (now !== renewed) {
        renewed = now
        rows.refresh()
      } else rows.tick(performance.now(), listed)
    }, tickEvery)
    return () => {
      clearInterval(timer)
      rows.stop()
    }
  }, [])
  return rows
}

const states = ["open", "draining", "closing"] as const

export const Connections = ({ open }: { readonly open: (id: number) => void }) => {
  const { gone } = useModel()
  const [text, setText] = useState("")
  const [state, setState] = useState<(typeof states)[number] | "">("")
  const [sort, setSort] = useState<Sort>({ sort: "id", order: "desc" })
  const [isClosing, setClosing] = useState(false)
  const where = { ...(text.trim() === "" ? {} : { text: text.trim() }), ...(state === "" ? {} : { state }) }
  const rows = useRows({ ...sort, ...where })
  const isFiltered = Object.keys(where).length > 0
  return (
    <>
      <Charts />
      <section class="list" aria-labelledby="list-title">
        <div class="tools">
          <h2 id="list-title">Connections</h2>
          <span class="dim">
            {rows.total === undefined ? "…" : `${count(rows.total)}${isFiltered ? " match" : ""}`}
          </span>
          <label class="grow">
            <span class="unseen">Filter by id, key, tag or peer</span>
            <input
              type="search"
              placeholder="Filter: id, key, tag, peer"
              maxLength={256}
              value={text}
              onInput={({ currentTarget }) => setText(currentTarget.value)}
            />
          </label>
          <label>
            <span class="unseen">State</span>
            <select
              value={state}
              onChange={({ currentTarget: { value } }) => setState(states.find((state) => state === value) ?? "")}
            >
              <option value="">any state</option>
              {states.map((state) => <option key={state} value={state}>{state}</option>)}
            </select>
          </label>
          {rows.total === undefined || rows.total === 0 ?
            undefined :
            (
              <button type="button" class="danger push" onClick={() => setClosing(true)}>
                Close {isFiltered ? `these ${count(rows.total)}` : "all"}…
              </button>
            )}
        </div>
        <Problem error={rows.error} />
        <Table rows={rows} sort={sort} setSort={setSort} gone={gone} open={open} />
        {rows.total === 0
          ? <Empty>{isFiltered ? "None match." : "No connection is open."}</Empty>
          : undefined}
        {isClosing ? <ClosingMany where={where} total={rows.total ?? 0} stop={() => setClosing(false)} /> : undefined}
      </section>
    </>
  )
}
