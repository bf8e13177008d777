/** The part with the chart library: a file of its own, which is fetched when the page with charts is opened. */

import uPlot from 'uplot'
import type { Drawing, Line, Times } from '../ring.js'

const HEIGHT = 170 // CSS pixels

/** Draw lines over time into an element, as wide as it is. Colours are those of the sheet, at the time of drawing. least: how far
 * up the scale goes where nothing happens. */
export function draw(place: HTMLElement, lines: readonly Line[], say: (value: number) => string, least: number): Drawing {
  const [ink, line] = [resolved(place, '--ink-quiet'), resolved(place, '--line')]
  const axis: uPlot.Axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: '12px system-ui, sans-serif' }
  const plot = new uPlot({
    width: Math.max(200, place.clientWidth),
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: { y: { range: (_plot, _low, high) => [0, Math.max(high, least) * 1.1] } },
    axes: [
      { ...axis, values: (_plot, ticks) => ticks.map((tick) => new Date(tick * 1000).toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' })), space: 80 },
      { ...axis, values: (_plot, ticks) => ticks.map(say), size: 72 },
    ],
    series: [{}, ...lines.map(({ colour: name, dash }) => ({ stroke: resolved(place, name), width: 2, points: { show: false }, ...(dash === undefined ? {} : { dash: [...dash] }) }))],
  }, [[], ...lines.map(() => [])], place)
  const watch = new ResizeObserver(() => plot.setSize({ width: Math.max(200, place.clientWidth), height: HEIGHT }))
  watch.observe(place)
  return {
    show: (times: Times, values) => plot.setData([times as number[], ...(values as (number | null)[][])]),
    end: () => {
      watch.disconnect()
      plot.destroy()
    },
  }
}

/** A colour of the sheet as the canvas wants it: with light or dark decided. */
function resolved(place: HTMLElement, name: string): string {
  const probe = document.createElement('span')
  probe.style.color = `var(${name})`
  place.append(probe)
  const found = getComputedStyle(probe).color
  probe.remove()
  return found
}
