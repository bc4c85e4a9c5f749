/** A question before something is done that cannot be taken back. */
import type { ComponentChildren } from "preact"
import { useEffect, useId, useRef, useState } from "preact/hooks"

export const Confirm = ({ action, children, run, stop, title }: {
  readonly title: string
  /** What the button says. */
  readonly action: string
  readonly children?: ComponentChildren
  readonly run: () => Promise<void>
  readonly stop: () => void
}) => {
  const dialog = useRef<HTMLDialogElement>(null)
  const id = useId()
  const [error, setError] = useState<string>()
  const [isRunning, setRunning] = useState(false)
  useEffect(() => {
    const opened = dialog.current!
    const before = document.activeElement
    opened.showModal()
    return () => {
      opened.close()
      if (before instanceof HTMLElement) before.focus()
    }
  }, [])
  const submit = (event: Event): void => {
    event.preventDefault()
    setRunning(true)
    run().then(stop, (cause: unknown) => {
      setError(cause instanceof Error ? cause.message : String(cause))
      setRunning(false)
    })
  }
  return (
    <dialog ref={dialog} aria-labelledby={id} onCancel={stop}>
      <form onSubmit={submit}>
        <h2 id={id}>{title}</h2>
        {children}
        {error === undefined ? undefined : <p class="error" role="alert">{error}</p>}
        <div class="buttons">
          <button type="button" onClick={stop}>Cancel</button>
          <button type="submit" class="danger" disabled={isRunning}>{action}</button>
        </div>
      </form>
    </dialog>
  )
}
