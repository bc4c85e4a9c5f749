/** Buffers whose every byte is about to be written. */

interface Unsafe {
  readonly allocUnsafeSlow: (size: number) => Uint8Array<ArrayBuffer>
}

// Node's, where there is one: clearing a megabyte costs as much as copying it
const { Buffer: unsafe } = globalThis as { readonly Buffer?: Unsafe | undefined }

// below this there is little to clear
const least = 4096

/** A buffer of its own with anything in it: fill all of it before anybody sees it. */
export const uncleared = (size: number): Uint8Array<ArrayBuffer> =>
  unsafe === undefined || size < least ? new Uint8Array(size) : new Uint8Array(unsafe.allocUnsafeSlow(size).buffer)
