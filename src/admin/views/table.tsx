/** The table of connections: of any number of them, it draws those that are in view. */
import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "@tanstack/virtual-core"
import { Component } from "preact"
import { useLayoutEffect, useRef, useState } from "preact/hooks"
import type { Query, Row } from "../../node/internal/admin/schemas.ts"
import type { Rows } from "../model/rows.ts"
import { columns } from "./columns.tsx"

export type Sort = Required<Pick<Query, "sort" | "order">>

const rowHeight = 34

/** Rows that are drawn above and below those in view. */
const overscan = 8

const useVirtual = (count: number, shown: (from: number, to: number) => void) => {
  const scroller = useRef<HTMLDivElement>(null)
  const [, draw] = useState(0)
  const options = {
    count,
    overscan,
    // the header stays in view
    scrollMargin: rowHeight,
    scrollPaddingStart: rowHeight,
    getScrollElement: () => scroller.current,
    estimateSize: () => rowHeight,
    scrollToFn: elementScroll,
    observeElementRect,
    observeElementOffset,
    onChange: () => draw((drawn) => drawn + 1)
  }
  const [virtual] = useState(() => new Virtualizer<HTMLDivElement, HTMLDivElement>(options))
  virtual.setOptions(options)
  useLayoutEffect(() => virtual._didMount(), [])
  useLayoutEffect(() => virtual._willUpdate())
  const items = virtual.getVirtualItems()
  const from = items[0]?.index ?? 0
  const to = (items.at(-1)?.index ?? 0) + 1
  useLayoutEffect(() => shown(from, to), [from, to])
  return { items, scroller, virtual }
}

const Header = ({ setSort, sort }: { readonly sort: Sort; readonly setSort: (sort: Sort) => void }) => (
  <div role="rowgroup" class="header">
    <div role="row" class="row head" aria-rowindex={1}>
      {columns.map(({ descending, name, sort: by, title }) => (
        <div
          role="columnheader"
          key={name}
          class={`cell of-${name}`}
          aria-sort={by !== sort.sort ? "none" : sort.order === "asc" ? "ascending" : "descending"}
        >
          {by === undefined ? title : (
            <button
              type="button"
              onClick={() =>
                setSort(
                  by === sort.sort
                    ? { sort: by, order: sort.order === "asc" ? "desc" : "asc" }
                    : { sort: by, order: descending === true ? "desc" : "asc" }
                )}
            >
              {title}
              <span aria-hidden="true">{by !== sort.sort ? "" : sort.order === "asc" ? " ↑" : " ↓"}</span>
            </button>
          )}
        </div>
      ))}
    </div>
  </div>
)

interface Shown {
  readonly row: Row | undefined
  readonly index: number
  readonly start: number
  readonly isActive: boolean
  readonly older: number
}

/** A row of the table: drawn again only when it shows something else, as the table is with every step of a scroll. */
class Line extends Component<Shown> {
  override shouldComponentUpdate({ index, isActive, older, row, start }: Shown): boolean {
    const now = this.props
    return row !== now.row || older !== now.older || isActive !== now.isActive || index !== now.index ||
      start !== now.start
  }

  override render({ index, isActive, older, row: shown, start }: Shown) {
    return (
      <div
        role="row"
        id={`row-${index}`}
        data-index={index}
        data-id={shown?.id}
        class={`row${isActive ? " active" : ""}${shown?.state === "ended" ? " over" : ""}`}
        aria-rowindex={index + 2}
        aria-selected={isActive}
        style={{ transform: `translateY(${start - rowHeight}px)` }}
      >
        {columns.map(({ name, show }) => (
          <div role="gridcell" key={name} class={`cell of-${name}`}>
            {shown === undefined ? "…" : show(shown, older)}
          </div>
        ))}
      </div>
    )
  }
}

export const Table = ({ gone, open, rows, setSort, sort }: {
  readonly rows: Rows
  readonly sort: Sort
  readonly setSort: (sort: Sort) => void
  readonly gone: ReadonlyMap<number, Row>
  readonly open: (id: number) => void
}) => {
  const total = rows.total ?? 0
  const { items, scroller, virtual } = useVirtual(total, rows.show)
  const [active, setActive] = useState(-1)
  // whole seconds are shown
  const older = Math.floor((performance.now() - rows.at) / 1000) * 1000
  const openRow = (index: number): void => {
    const row = rows.row(index)
    if (row !== undefined) open(row.id)
  }
  const page = Math.max(1, Math.floor((scroller.current?.clientHeight ?? 300) / rowHeight) - 1)
  const moves: Readonly<Record<string, (index: number) => number>> = {
    ArrowDown: (index) => index + 1,
    ArrowUp: (index) => index - 1,
    PageDown: (index) => index + page,
    PageUp: (index) => index - page,
    Home: () => 0,
    End: () => total - 1
  }
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.target !== event.currentTarget) return
    if (event.key === "Enter" && active >= 0) {
      event.preventDefault()
      openRow(active)
    }
    const move = moves[event.key]
    if (move === undefined || event.ctrlKey || event.metaKey || event.altKey || total === 0) return
    event.preventDefault()
    const next = Math.max(0, Math.min(total - 1, move(active)))
    setActive(next)
    virtual.scrollToIndex(next)
  }
  const onClick = (event: MouseEvent): void => {
    const row = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-index]") : null
    if (row === null) return
    setActive(Number(row.dataset.index))
    if (row.dataset.id !== undefined) open(Number(row.dataset.id))
  }
  const isDrawn = items.some(({ index }) => index === active)
  return (
    <div
      role="grid"
      class="table"
      ref={scroller}
      aria-label="Connections"
      aria-rowcount={total + 1}
      aria-colcount={columns.length}
      aria-describedby="table-help"
      tabIndex={0}
      {...(isDrawn ? { "aria-activedescendant": `row-${active}` } : {})}
      onKeyDown={onKeyDown}
      onClick={onClick}
    >
      <Header sort={sort} setSort={setSort} />
      <div role="rowgroup">
        <div role="presentation" class="sizer" style={{ height: `${virtual.getTotalSize()}px` }}>
          {items.map(({ index, start }) => {
            const row = rows.row(index)
            return (
              <Line
                key={index}
                index={index}
                start={start}
                row={row === undefined ? undefined : gone.get(row.id) ?? row}
                isActive={index === active}
                older={older}
              />
            )
          })}
        </div>
      </div>
      <span id="table-help" class="unseen">Arrow keys move, Enter opens a connection.</span>
    </div>
  )
}
