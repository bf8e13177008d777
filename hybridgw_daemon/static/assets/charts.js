// ../node_modules/uplot/dist/uPlot.esm.js
var e = !0, t = "uplot", n = "u-hz", r = "u-vt", i = "u-title", a = "u-wrap", o = "u-under", s = "u-over", c = "u-axis", l = "u-off", u = "u-select", d = "u-cursor-x", f = "u-cursor-y", p = "u-cursor-pt", m = "u-legend", h = "u-live", g = "u-inline", _ = "u-series", v = "u-marker", y = "u-label", b = "u-value", x = "width", S = "height", C = "top", w = "bottom", T = "left", E = "right", D = "#000", ee = "#0000", te = "mousemove", ne = "mousedown", re = "mouseup", ie = "mouseenter", ae = "mouseleave", oe = "dblclick", se = "resize", O = "scroll", k = "change", ce = "dppxchange", le = "--", A = typeof window < "u", ue = A ? document : null, de = A ? window : null, j = A ? navigator : null, M, fe;
function pe() {
	let e = devicePixelRatio;
	M != e && (M = e, fe && Ee(k, fe, pe), fe = matchMedia(`(min-resolution: ${M - .001}dppx) and (max-resolution: ${M + .001}dppx)`), Te(k, fe, pe), de.dispatchEvent(new CustomEvent(ce)));
}
function me(e, t) {
	if (t != null) {
		let n = e.classList;
		!n.contains(t) && n.add(t);
	}
}
function he(e, t) {
	let n = e.classList;
	n.contains(t) && n.remove(t);
}
function N(e, t, n) {
	e.style[t] = n + "px";
}
function ge(e, t, n, r) {
	let i = ue.createElement(e);
	return t != null && me(i, t), n?.insertBefore(i, r), i;
}
function _e(e, t) {
	return ge("div", e, t);
}
var ve = /* @__PURE__ */ new WeakMap();
function ye(e, t, n, r, i) {
	let a = "translate(" + t + "px," + n + "px)";
	a != ve.get(e) && (e.style.transform = a, ve.set(e, a), t < 0 || n < 0 || t > r || n > i ? me(e, l) : he(e, l));
}
var be = /* @__PURE__ */ new WeakMap();
function xe(e, t, n) {
	let r = t + n;
	r != be.get(e) && (be.set(e, r), e.style.background = t, e.style.borderColor = n);
}
var P = /* @__PURE__ */ new WeakMap();
function Se(e, t, n, r) {
	let i = t + "" + n;
	i != P.get(e) && (P.set(e, i), e.style.height = n + "px", e.style.width = t + "px", e.style.marginLeft = r ? -t / 2 + "px" : 0, e.style.marginTop = r ? -n / 2 + "px" : 0);
}
var Ce = { passive: !0 }, we = {
	...Ce,
	capture: !0
};
function Te(e, t, n, r) {
	t.addEventListener(e, n, r ? we : Ce);
}
function Ee(e, t, n, r) {
	t.removeEventListener(e, n, Ce);
}
A && pe();
function De(e, t, n, r) {
	let i;
	n ||= 0, r ||= t.length - 1;
	let a = r <= 0x7fffffff;
	for (; r - n > 1;) i = a ? n + r >> 1 : Ge((n + r) / 2), t[i] < e ? n = i : r = i;
	return e - t[n] <= t[r] - e ? n : r;
}
function Oe(e) {
	return (t, n, r) => {
		let i = -1, a = -1;
		for (let a = n; a <= r; a++) if (e(t[a])) {
			i = a;
			break;
		}
		for (let i = r; i >= n; i--) if (e(t[i])) {
			a = i;
			break;
		}
		return [i, a];
	};
}
var ke = (e) => e != null, Ae = (e) => e != null && e > 0, je = Oe(ke), F = Oe(Ae);
function Me(e, t, n, r = 0, i = !1) {
	let a = i ? F : je, o = i ? Ae : ke;
	[t, n] = a(e, t, n);
	let s = e[t], c = e[t];
	if (t > -1) {
		if (r == 1) s = e[t], c = e[n];
		else if (r == -1) s = e[n], c = e[t];
		else for (let r = t; r <= n; r++) {
			let t = e[r];
			o(t) && (t < s ? s = t : t > c && (c = t));
		}
	}
	return [s ?? B, c ?? -B];
}
function Ne(e, t, n, r) {
	let i = Ze(e), a = Ze(t);
	e == t && (i == -1 ? (e *= n, t /= n) : (e /= n, t *= n));
	let o = n == 10 ? Qe : z, s = i == 1 ? Ge : qe, c = a == 1 ? qe : Ge, l = s(o(We(e))), u = c(o(We(t))), d = Xe(n, l), f = Xe(n, u);
	return n == 10 && (l < 0 && (d = H(d, -l)), u < 0 && (f = H(f, -u))), r || n == 2 ? (e = d * i, t = f * a) : (e = mt(e, d), t = pt(t, f)), [e, t];
}
function Pe(e, t, n, r) {
	let i = Ne(e, t, n, r);
	return e == 0 && (i[0] = 0), t == 0 && (i[1] = 0), i;
}
var Fe = .1, Ie = {
	mode: 3,
	pad: Fe
}, Le = {
	pad: 0,
	soft: null,
	mode: 0
}, I = {
	min: Le,
	max: Le
};
function Re(e, t, n, r) {
	return Tt(n) ? Be(e, t, n) : (Le.pad = n, Le.soft = r ? 0 : null, Le.mode = r ? 3 : 0, Be(e, t, I));
}
function L(e, t) {
	return e ?? t;
}
function ze(e, t, n) {
	for (t = L(t, 0), n = L(n, e.length - 1); t <= n;) {
		if (e[t] != null) return !0;
		t++;
	}
	return !1;
}
function Be(e, t, n) {
	let r = n.min, i = n.max, a = L(r.pad, 0), o = L(i.pad, 0), s = L(r.hard, -B), c = L(i.hard, B), l = L(r.soft, B), u = L(i.soft, -B), d = L(r.mode, 0), f = L(i.mode, 0), p = t - e, m = Qe(p), h = Ye(We(e), We(t)), g = We(Qe(h) - m);
	(p < 1e-24 || g > 10) && (p = 0, (e == 0 || t == 0) && (p = 1e-24, d == 2 && l != B && (a = 0), f == 2 && u != -B && (o = 0)));
	let _ = p || h || 1e3, v = Xe(10, Ge(Qe(_))), y = H(mt(e - _ * (p == 0 ? e == 0 ? .1 : 1 : a), v / 10), 24), b = e >= l && (d == 1 || d == 3 && y <= l || d == 2 && y >= l) ? l : B, x = Ye(s, y < b && e >= b ? b : Je(b, y)), S = H(pt(t + _ * (p == 0 ? t == 0 ? .1 : 1 : o), v / 10), 24), C = t <= u && (f == 1 || f == 3 && S >= u || f == 2 && S <= u) ? u : -B, w = Je(c, S > C && t <= C ? C : Ye(C, S));
	return x == w && x == 0 && (w = 100), [x, w];
}
var R = new Intl.NumberFormat(A ? j.language : "en-US"), Ve = (e) => R.format(e), He = Math, Ue = He.PI, We = He.abs, Ge = He.floor, Ke = He.round, qe = He.ceil, Je = He.min, Ye = He.max, Xe = He.pow, Ze = He.sign, Qe = He.log10, z = He.log2, $e = (e, t = 1) => He.sinh(e) * t, et = (e, t = 1) => He.asinh(e / t), B = 1e400;
function tt(e) {
	return (Qe((e ^ e >> 31) - (e >> 31)) | 0) + 1;
}
function nt(e, t, n) {
	return Je(Ye(e, t), n);
}
function rt(e) {
	return typeof e == "function";
}
function V(e) {
	return rt(e) ? e : () => e;
}
var it = () => {}, at = (e) => e, ot = (e, t) => t, st = (e) => null, ct = (e) => !0, lt = (e, t) => e == t, ut = /\.\d*?(?=9{6,}|0{6,})/gm, dt = (e) => {
	if (St(e) || ht.has(e)) return e;
	let t = `${e}`, n = t.match(ut);
	if (n == null) return e;
	let r = n[0].length - 1;
	if (t.indexOf("e-") != -1) {
		let [e, n] = t.split("e");
		return +`${dt(e)}e${n}`;
	}
	return H(e, r);
};
function ft(e, t) {
	return dt(H(dt(e / t)) * t);
}
function pt(e, t) {
	return dt(qe(dt(e / t)) * t);
}
function mt(e, t) {
	return dt(Ge(dt(e / t)) * t);
}
function H(e, t = 0) {
	if (St(e)) return e;
	let n = 10 ** t;
	return Ke(e * n * (1 + 2 ** -52)) / n;
}
var ht = /* @__PURE__ */ new Map();
function gt(e) {
	return (("" + e).split(".")[1] || "").length;
}
function _t(e, t, n, r) {
	let i = [], a = r.map(gt);
	for (let o = t; o < n; o++) {
		let t = We(o), n = H(Xe(e, o), t);
		for (let s = 0; s < r.length; s++) {
			let c = e == 10 ? +`${r[s]}e${o}` : r[s] * n, l = (o >= 0 ? 0 : t) + (o >= a[s] ? 0 : a[s]), u = e == 10 ? c : H(c, l);
			i.push(u), ht.set(u, l);
		}
	}
	return i;
}
var vt = {}, yt = [], bt = [null, null], xt = Array.isArray, St = Number.isInteger, Ct = (e) => e === void 0;
function wt(e) {
	return typeof e == "string";
}
function Tt(e) {
	let t = !1;
	if (e != null) {
		let n = e.constructor;
		t = n == null || n == Object;
	}
	return t;
}
function Et(e) {
	return typeof e == "object" && !!e;
}
var Dt = Object.getPrototypeOf(Uint8Array), U = "__proto__";
function Ot(e, t = Tt) {
	let n;
	if (xt(e)) {
		let r = e.find((e) => e != null);
		if (xt(r) || t(r)) {
			n = Array(e.length);
			for (let r = 0; r < e.length; r++) n[r] = Ot(e[r], t);
		} else n = e.slice();
	} else if (e instanceof Dt) n = e.slice();
	else if (t(e)) {
		n = {};
		for (let r in e) r != U && (n[r] = Ot(e[r], t));
	} else n = e;
	return n;
}
function kt(e) {
	let t = arguments;
	for (let n = 1; n < t.length; n++) {
		let r = t[n];
		for (let t in r) t != U && (Tt(e[t]) ? kt(e[t], Ot(r[t])) : e[t] = Ot(r[t]));
	}
	return e;
}
var W = 0, At = 1, jt = 2;
function Mt(e, t, n) {
	for (let r = 0, i, a = -1; r < t.length; r++) {
		let o = t[r];
		if (o > a) {
			for (i = o - 1; i >= 0 && e[i] == null;) e[i--] = null;
			for (i = o + 1; i < n && e[i] == null;) e[a = i++] = null;
		}
	}
}
var Nt = typeof queueMicrotask > "u" ? (e) => Promise.resolve().then(e) : queueMicrotask;
function Pt(e) {
	let t = e[0], n = t.length, r = Array(n);
	for (let e = 0; e < r.length; e++) r[e] = e;
	r.sort((e, n) => t[e] - t[n]);
	let i = [];
	for (let t = 0; t < e.length; t++) {
		let a = e[t], o = Array(n);
		for (let e = 0; e < n; e++) o[e] = a[r[e]];
		i.push(o);
	}
	return i;
}
function Ft(e) {
	let t = e[0][0], n = t.length;
	for (let r = 1; r < e.length; r++) {
		let i = e[r][0];
		if (i.length != n) return !1;
		if (i != t) {
			for (let e = 0; e < n; e++) if (i[e] != t[e]) return !1;
		}
	}
	return !0;
}
function It(e, t = 100) {
	let n = e.length;
	if (n <= 1) return !0;
	let r = 0, i = n - 1;
	for (; r <= i && e[r] == null;) r++;
	for (; i >= r && e[i] == null;) i--;
	if (i <= r) return !0;
	let a = Ye(1, Ge((i - r + 1) / t));
	for (let t = e[r], n = r + a; n <= i; n += a) {
		let r = e[n];
		if (r != null) {
			if (r <= t) return !1;
			t = r;
		}
	}
	return !0;
}
var Lt = [
	"January",
	"February",
	"March",
	"April",
	"May",
	"June",
	"July",
	"August",
	"September",
	"October",
	"November",
	"December"
], Rt = [
	"Sunday",
	"Monday",
	"Tuesday",
	"Wednesday",
	"Thursday",
	"Friday",
	"Saturday"
];
function zt(e) {
	return e.slice(0, 3);
}
var Bt = Rt.map(zt), Vt = {
	MMMM: Lt,
	MMM: Lt.map(zt),
	WWWW: Rt,
	WWW: Bt
};
function Ht(e) {
	return (e < 10 ? "0" : "") + e;
}
function Ut(e) {
	return (e < 10 ? "00" : e < 100 ? "0" : "") + e;
}
var Wt = {
	YYYY: (e) => e.getFullYear(),
	YY: (e) => (e.getFullYear() + "").slice(2),
	MMMM: (e, t) => t.MMMM[e.getMonth()],
	MMM: (e, t) => t.MMM[e.getMonth()],
	MM: (e) => Ht(e.getMonth() + 1),
	M: (e) => e.getMonth() + 1,
	DD: (e) => Ht(e.getDate()),
	D: (e) => e.getDate(),
	WWWW: (e, t) => t.WWWW[e.getDay()],
	WWW: (e, t) => t.WWW[e.getDay()],
	HH: (e) => Ht(e.getHours()),
	H: (e) => e.getHours(),
	h: (e) => {
		let t = e.getHours();
		return t == 0 ? 12 : t > 12 ? t - 12 : t;
	},
	AA: (e) => e.getHours() >= 12 ? "PM" : "AM",
	aa: (e) => e.getHours() >= 12 ? "pm" : "am",
	a: (e) => e.getHours() >= 12 ? "p" : "a",
	mm: (e) => Ht(e.getMinutes()),
	m: (e) => e.getMinutes(),
	ss: (e) => Ht(e.getSeconds()),
	s: (e) => e.getSeconds(),
	fff: (e) => Ut(e.getMilliseconds())
};
function Gt(e, t) {
	t ||= Vt;
	let n = [], r = /\{([a-z]+)\}|[^{]+/gi, i;
	for (; i = r.exec(e);) n.push(i[0][0] == "{" ? Wt[i[1]] : i[0]);
	return (e) => {
		let r = "";
		for (let i = 0; i < n.length; i++) r += typeof n[i] == "string" ? n[i] : n[i](e, t);
		return r;
	};
}
var Kt = new Intl.DateTimeFormat().resolvedOptions().timeZone, qt = (e) => e % 1 == 0, Jt = [
	1,
	2,
	2.5,
	5
], Yt = _t(10, -32, 0, Jt), Xt = _t(10, 0, 32, Jt), Zt = Xt.filter(qt), Qt = Yt.concat(Xt), $t = "\n", G = "{YYYY}", K = $t + G, en = "{M}/{D}", tn = $t + en, nn = tn + "/{YY}", rn = "{aa}", an = "{h}:{mm}" + rn, on = $t + an, sn = ":{ss}", q = null;
function cn(e) {
	let t = e * 1e3, n = t * 60, r = n * 60, i = r * 24, a = i * 30, o = i * 365, s = (e == 1 ? _t(10, 0, 3, Jt).filter(qt) : _t(10, -3, 0, Jt)).concat([
		t,
		t * 5,
		t * 10,
		t * 15,
		t * 30,
		n,
		n * 5,
		n * 10,
		n * 15,
		n * 30,
		r,
		r * 2,
		r * 3,
		r * 4,
		r * 6,
		r * 8,
		r * 12,
		i,
		i * 2,
		i * 3,
		i * 4,
		i * 5,
		i * 6,
		i * 7,
		i * 8,
		i * 9,
		i * 10,
		i * 15,
		a,
		a * 2,
		a * 3,
		a * 4,
		a * 6,
		o,
		o * 2,
		o * 5,
		o * 10,
		o * 25,
		o * 50,
		o * 100
	]), c = [
		[
			o,
			G,
			q,
			q,
			q,
			q,
			q,
			q,
			1
		],
		[
			i * 28,
			"{MMM}",
			K,
			q,
			q,
			q,
			q,
			q,
			1
		],
		[
			i,
			en,
			K,
			q,
			q,
			q,
			q,
			q,
			1
		],
		[
			r,
			"{h}" + rn,
			nn,
			q,
			tn,
			q,
			q,
			q,
			1
		],
		[
			n,
			an,
			nn,
			q,
			tn,
			q,
			q,
			q,
			1
		],
		[
			t,
			sn,
			nn + " " + an,
			q,
			tn + " " + an,
			q,
			on,
			q,
			1
		],
		[
			e,
			sn + ".{fff}",
			nn + " " + an,
			q,
			tn + " " + an,
			q,
			on,
			q,
			1
		]
	];
	function l(t) {
		return (s, c, l, u, d, f) => {
			let p = [], m = d >= o, h = d >= a && d < o, g = t(l), _ = H(g * e, 3), v = vn(g.getFullYear(), m ? 0 : g.getMonth(), h || m ? 1 : g.getDate()), y = H(v * e, 3);
			if (h || m) {
				let n = h ? d / a : 0, r = m ? d / o : 0, i = _ == y ? _ : H(vn(v.getFullYear() + r, v.getMonth() + n, 1) * e, 3), s = new Date(Ke(i / e)), c = s.getFullYear(), l = s.getMonth();
				for (let a = 0; i <= u; a++) {
					let o = vn(c + r * a, l + n * a, 1), s = o - t(H(o * e, 3));
					i = H((+o + s) * e, 3), i <= u && p.push(i);
				}
			} else {
				let a = d >= i ? i : d, o = y + (Ge(l) - Ge(_)) + pt(_ - y, a);
				p.push(o);
				let m = t(o), h = m.getHours() + m.getMinutes() / n + m.getSeconds() / r, g = d / r, v = f / s.axes[c]._space;
				for (; o = H(o + d, e == 1 ? 0 : 3), !(o > u);) if (g > 1) {
					let e = Ge(H(h + g, 6)) % 24, n = t(o).getHours() - e;
					n > 1 && (n = -1), o -= n * r, h = (h + g) % 24;
					let i = p[p.length - 1];
					H((o - i) / d, 3) * v >= .7 && p.push(o);
				} else p.push(o);
			}
			return p;
		};
	}
	return [
		s,
		c,
		l
	];
}
var [ln, un, dn] = cn(1), [fn, pn, mn] = cn(.001);
_t(2, -53, 53, [1]);
function hn(e, t) {
	return e.map((e) => e.map((n, r) => r == 0 || r == 8 || n == null ? n : t(r == 1 || e[8] == 0 ? n : e[1] + n)));
}
function gn(e, t) {
	return (n, r, i, a, o) => {
		let s = t.find((e) => o >= e[0]) || t[t.length - 1], c, l, u, d, f, p;
		return r.map((t) => {
			let n = e(t), r = n.getFullYear(), i = n.getMonth(), a = n.getDate(), o = n.getHours(), m = n.getMinutes(), h = n.getSeconds(), g = r != c && s[2] || i != l && s[3] || a != u && s[4] || o != d && s[5] || m != f && s[6] || h != p && s[7] || s[1];
			return c = r, l = i, u = a, d = o, f = m, p = h, g(n);
		});
	};
}
function _n(e, t) {
	let n = Gt(t);
	return (t, r, i, a, o) => r.map((t) => n(e(t)));
}
function vn(e, t, n) {
	return new Date(e, t, n);
}
function yn(e, t) {
	return t(e);
}
var bn = "{YYYY}-{MM}-{DD} {h}:{mm}{aa}";
function xn(e, t) {
	return (n, r, i, a) => a == null ? le : t(e(r));
}
function Sn(e, t) {
	let n = e.series[t];
	return n.width ? n.stroke(e, t) : n.points.width ? n.points.stroke(e, t) : null;
}
function Cn(e, t) {
	return e.series[t].fill(e, t);
}
var wn = {
	show: !0,
	live: !0,
	isolate: !1,
	mount: it,
	markers: {
		show: !0,
		width: 2,
		stroke: Sn,
		fill: Cn,
		dash: "solid"
	},
	idx: null,
	idxs: null,
	values: []
};
function Tn(e, t) {
	let n = e.cursor.points, r = _e(), i = n.size(e, t);
	N(r, x, i), N(r, S, i);
	let a = i / -2;
	N(r, "marginLeft", a), N(r, "marginTop", a);
	let o = n.width(e, t, i);
	return o && N(r, "borderWidth", o), r;
}
function En(e, t) {
	let n = e.series[t].points;
	return n._fill || n._stroke;
}
function Dn(e, t) {
	let n = e.series[t].points;
	return n._stroke || n._fill;
}
function On(e, t) {
	return e.series[t].points.size;
}
var kn = [0, 0];
function An(e, t, n) {
	return kn[0] = t, kn[1] = n, kn;
}
function jn(e, t, n, r = !0) {
	return (e) => {
		e.button != 0 || r && e.target != t || n(e);
	};
}
function Mn(e, t, n, r = !0) {
	return (e) => {
		r && e.target != t || n(e);
	};
}
var Nn = {
	show: !0,
	x: !0,
	y: !0,
	lock: !1,
	move: An,
	points: {
		one: !1,
		show: Tn,
		size: On,
		width: 0,
		stroke: Dn,
		fill: En
	},
	bind: {
		mousedown: jn,
		mouseup: jn,
		click: jn,
		dblclick: jn,
		mousemove: Mn,
		mouseleave: Mn,
		mouseenter: Mn
	},
	drag: {
		setScale: !0,
		x: !0,
		y: !1,
		dist: 0,
		uni: null,
		click: (e, t) => {
			t.stopPropagation(), t.stopImmediatePropagation();
		},
		_x: !1,
		_y: !1
	},
	focus: {
		dist: (e, t, n, r, i) => r - i,
		prox: -1,
		bias: 0
	},
	hover: {
		skip: [void 0],
		prox: null,
		bias: 0
	},
	left: -10,
	top: -10,
	idx: null,
	dataIdx: null,
	idxs: null,
	event: null
}, Pn = {
	show: !0,
	stroke: "rgba(0,0,0,0.07)",
	width: 2
}, Fn = kt({}, Pn, { filter: ot }), In = kt({}, Fn, { size: 10 }), Ln = kt({}, Pn, { show: !1 }), Rn = "12px system-ui, -apple-system, \"Segoe UI\", Roboto, \"Helvetica Neue\", Arial, \"Noto Sans\", sans-serif, \"Apple Color Emoji\", \"Segoe UI Emoji\", \"Segoe UI Symbol\", \"Noto Color Emoji\"", zn = "bold " + Rn, Bn = 1.5, Vn = {
	show: !0,
	scale: "x",
	stroke: D,
	space: 50,
	gap: 5,
	alignTo: 1,
	size: 50,
	labelGap: 0,
	labelSize: 30,
	labelFont: zn,
	side: 2,
	grid: Fn,
	ticks: In,
	border: Ln,
	font: Rn,
	lineGap: Bn,
	rotate: 0
}, Hn = "Value", Un = "Time", Wn = {
	show: !0,
	scale: "x",
	auto: !1,
	sorted: 1,
	min: B,
	max: -1e400,
	idxs: []
};
function Gn(e, t, n, r, i) {
	return t.map((e) => e == null ? "" : Ve(e));
}
function Kn(e, t, n, r, i, a, o) {
	let s = [], c = ht.get(i) || 0;
	n = o ? n : H(pt(n, i), c);
	for (let e = n; e <= r; e = H(e + i, c)) s.push(Object.is(e, -0) ? 0 : e);
	return s;
}
function qn(e, t, n, r, i, a, o) {
	let s = [], c = e.scales[e.axes[t].scale].log;
	i = Xe(c, Ge((c == 10 ? Qe : z)(n))), c == 10 && (i = Qt[De(i, Qt)]);
	let l = n, u = i * c;
	c == 10 && (u = Qt[De(u, Qt)]);
	do
		s.push(l), l += i, c == 10 && !ht.has(l) && (l = H(l, ht.get(i))), l >= u && (i = l, u = i * c, c == 10 && (u = Qt[De(u, Qt)]));
	while (l <= r);
	return s;
}
function Jn(e, t, n, r, i, a, o) {
	let s = e.scales[e.axes[t].scale].asinh, c = r > s ? qn(e, t, Ye(s, n), r, i) : [s], l = r >= 0 && n <= 0 ? [0] : [];
	return (n < -s ? qn(e, t, Ye(s, -r), -n, i) : [s]).reverse().map((e) => -e).concat(l, c);
}
var Yn = /./, Xn = /[12357]/, Zn = /[125]/, Qn = /1/, $n = (e, t, n, r) => e.map((e, i) => t == 4 && e == 0 || i % r == 0 && n.test(e.toExponential()[+(e < 0)]) ? e : null);
function er(e, t, n, r, i) {
	let a = e.axes[n], o = a.scale, s = e.scales[o], c = e.valToPos, l = a._space, u = c(10, o), d = c(9, o) - u >= l ? Yn : c(7, o) - u >= l ? Xn : c(5, o) - u >= l ? Zn : Qn;
	if (d == Qn) {
		let e = We(c(1, o) - u);
		if (e < l) return $n(t.slice().reverse(), s.distr, d, qe(l / e)).reverse();
	}
	return $n(t, s.distr, d, 1);
}
function tr(e, t, n, r, i) {
	let a = e.axes[n], o = a.scale, s = a._space, c = e.valToPos, l = We(c(1, o) - c(2, o));
	return l < s ? $n(t.slice().reverse(), 3, Yn, qe(s / l)).reverse() : t;
}
function nr(e, t, n, r) {
	return r == null ? le : t == null ? "" : Ve(t);
}
var rr = {
	show: !0,
	scale: "y",
	stroke: D,
	space: 30,
	gap: 5,
	alignTo: 1,
	size: 50,
	labelGap: 0,
	labelSize: 30,
	labelFont: zn,
	side: 3,
	grid: Fn,
	ticks: In,
	border: Ln,
	font: Rn,
	lineGap: Bn,
	rotate: 0
};
function ir(e, t) {
	return H((3 + (e || 1) * 2) * t, 3);
}
function ar(e, t) {
	let { scale: n, idxs: r } = e.series[0], i = e._data[0], a = e.valToPos(i[r[0]], n, !0), o = We(e.valToPos(i[r[1]], n, !0) - a) / (e.series[t].points.space * M);
	return r[1] - r[0] <= o;
}
var or = {
	scale: null,
	auto: !0,
	sorted: 0,
	min: B,
	max: -1e400
}, sr = (e, t, n, r, i) => i, cr = {
	show: !0,
	auto: !0,
	sorted: 0,
	gaps: sr,
	alpha: 1,
	facets: [kt({}, or, { scale: "x" }), kt({}, or, { scale: "y" })]
}, lr = {
	scale: "y",
	auto: !0,
	sorted: 0,
	show: !0,
	spanGaps: !1,
	gaps: sr,
	alpha: 1,
	points: {
		show: ar,
		filter: null
	},
	values: null,
	min: B,
	max: -1e400,
	idxs: [],
	path: null,
	clip: null
};
function ur(e, t, n, r, i) {
	return n / 10;
}
var dr = {
	time: e,
	auto: !0,
	distr: 1,
	log: 10,
	asinh: 1,
	min: null,
	max: null,
	dir: 1,
	ori: 0
}, fr = kt({}, dr, {
	time: !1,
	ori: 1
}), pr = {};
function mr(e, t) {
	let n = pr[e];
	return n || (n = {
		key: e,
		plots: [],
		sub(e) {
			n.plots.push(e);
		},
		unsub(e) {
			n.plots = n.plots.filter((t) => t != e);
		},
		pub(e, t, r, i, a, o, s) {
			for (let c = 0; c < n.plots.length; c++) n.plots[c] != t && n.plots[c].pub(e, t, r, i, a, o, s);
		}
	}, e != null && (pr[e] = n)), n;
}
var hr = 1, gr = 2;
function J(e, t, n) {
	let r = e.mode, i = e.series[t], a = r == 2 ? e._data[t] : e._data, o = e.scales, s = e.bbox, c = a[0], l = r == 2 ? a[1] : a[t], u = r == 2 ? o[i.facets[0].scale] : o[e.series[0].scale], d = r == 2 ? o[i.facets[1].scale] : o[i.scale], f = s.left, p = s.top, m = s.width, h = s.height, g = e.valToPosH, _ = e.valToPosV;
	return u.ori == 0 ? n(i, c, l, u, d, g, _, f, p, m, h, Cr, Tr, Dr, kr, jr) : n(i, c, l, u, d, _, g, p, f, h, m, wr, Er, Or, Ar, Mr);
}
function Y(e, t) {
	let n = 0, r = 0, i = L(e.bands, yt);
	for (let e = 0; e < i.length; e++) {
		let a = i[e];
		a.series[0] == t ? n = a.dir : a.series[1] == t && (a.dir == 1 ? r |= 1 : r |= 2);
	}
	return [n, r == 1 ? -1 : r == 2 ? 1 : r == 3 ? 2 : 0];
}
function _r(e, t, n, r, i) {
	let a = e.mode, o = e.series[t], s = a == 2 ? o.facets[1].scale : o.scale, c = e.scales[s];
	return i == -1 ? c.min : i == 1 ? c.max : c.distr == 3 ? c.dir == 1 ? c.min : c.max : 0;
}
function X(e, t, n, r, i, a) {
	return J(e, t, (e, t, o, s, c, l, u, d, f, p, m) => {
		let h = e.pxRound, g = s.dir * (s.ori == 0 ? 1 : -1), _ = s.ori == 0 ? Tr : Er, v, y;
		g == 1 ? (v = n, y = r) : (v = r, y = n);
		let b = h(l(t[v], s, p, d)), x = h(u(o[v], c, m, f)), S = h(l(t[y], s, p, d)), C = h(u(a == 1 ? c.max : c.min, c, m, f)), w = new Path2D(i);
		return _(w, S, C), _(w, b, C), _(w, b, x), w;
	});
}
function vr(e, t, n, r, i, a) {
	let o = null;
	if (e.length > 0) {
		o = new Path2D();
		let s = t == 0 ? Dr : Or, c = n;
		for (let t = 0; t < e.length; t++) {
			let n = e[t];
			if (n[1] > n[0]) {
				let e = n[0] - c;
				e > 0 && s(o, c, r, e, r + a), c = n[1];
			}
		}
		let l = n + i - c;
		l > 0 && s(o, c, r - 5, l, r + a + 10);
	}
	return o;
}
function yr(e, t, n) {
	let r = e[e.length - 1];
	r && r[0] == t ? r[1] = n : e.push([t, n]);
}
function br(e, t, n, r, i, a, o) {
	let s = [], c = e.length;
	for (let l = i == 1 ? n : r; l >= n && l <= r; l += i) if (t[l] === null) {
		let u = l, d = l;
		if (i == 1) for (; ++l <= r && t[l] === null;) d = l;
		else for (; --l >= n && t[l] === null;) d = l;
		let f = a(e[u]), p = d == u ? f : a(e[d]), m = u - i;
		f = o <= 0 && m >= 0 && m < c ? a(e[m]) : f;
		let h = d + i;
		p = o >= 0 && h >= 0 && h < c ? a(e[h]) : p, p >= f && s.push([f, p]);
	}
	return s;
}
function xr(e) {
	return e == 0 ? at : e == 1 ? Ke : (t) => ft(t, e);
}
function Sr(e) {
	let t = e == 0 ? Cr : wr, n = e == 0 ? (e, t, n, r, i, a) => {
		e.arcTo(t, n, r, i, a);
	} : (e, t, n, r, i, a) => {
		e.arcTo(n, t, i, r, a);
	}, r = e == 0 ? (e, t, n, r, i) => {
		e.rect(t, n, r, i);
	} : (e, t, n, r, i) => {
		e.rect(n, t, i, r);
	};
	return (e, i, a, o, s, c = 0, l = 0) => {
		c == 0 && l == 0 ? r(e, i, a, o, s) : (c = Je(c, o / 2, s / 2), l = Je(l, o / 2, s / 2), t(e, i + c, a), n(e, i + o, a, i + o, a + s, c), n(e, i + o, a + s, i, a + s, l), n(e, i, a + s, i, a, l), n(e, i, a, i + o, a, c), e.closePath());
	};
}
var Cr = (e, t, n) => {
	e.moveTo(t, n);
}, wr = (e, t, n) => {
	e.moveTo(n, t);
}, Tr = (e, t, n) => {
	e.lineTo(t, n);
}, Er = (e, t, n) => {
	e.lineTo(n, t);
}, Dr = Sr(0), Or = Sr(1), kr = (e, t, n, r, i, a) => {
	e.arc(t, n, r, i, a);
}, Ar = (e, t, n, r, i, a) => {
	e.arc(n, t, r, i, a);
}, jr = (e, t, n, r, i, a, o) => {
	e.bezierCurveTo(t, n, r, i, a, o);
}, Mr = (e, t, n, r, i, a, o) => {
	e.bezierCurveTo(n, t, i, r, o, a);
};
function Nr(e) {
	return (e, t, n, r, i) => J(e, t, (t, a, o, s, c, l, u, d, f, p, m) => {
		let { pxRound: h, points: g } = t, _, v;
		s.ori == 0 ? (_ = Cr, v = kr) : (_ = wr, v = Ar);
		let y = H(g.width * M, 3), b = (g.size - g.width) / 2 * M, x = H(b * 2, 3), S = new Path2D(), C = new Path2D(), { left: w, top: T, width: E, height: D } = e.bbox;
		Dr(C, w - x, T - x, E + x * 2, D + x * 2);
		let ee = (e) => {
			if (o[e] != null) {
				let t = h(l(a[e], s, p, d)), n = h(u(o[e], c, m, f));
				_(S, t + b, n), v(S, t, n, b, 0, Ue * 2);
			}
		};
		if (i) i.forEach(ee);
		else for (let e = n; e <= r; e++) ee(e);
		return {
			stroke: y > 0 ? S : null,
			fill: S,
			clip: C,
			flags: 3
		};
	});
}
function Pr(e) {
	return (t, n, r, i, a, o) => {
		r != i && (a != r && o != r && e(t, n, r), a != i && o != i && e(t, n, i), e(t, n, o));
	};
}
var Fr = Pr(Tr), Ir = Pr(Er);
function Lr(e) {
	let t = L(e?.alignGaps, 0);
	return (e, n, r, i) => J(e, n, (a, o, s, c, l, u, d, f, p, m, h) => {
		[r, i] = je(s, r, i);
		let g = a.pxRound, _ = (e) => g(u(e, c, m, f)), v = (e) => g(d(e, l, h, p)), y, b;
		c.ori == 0 ? (y = Tr, b = Fr) : (y = Er, b = Ir);
		let x = c.dir * (c.ori == 0 ? 1 : -1), S = {
			stroke: new Path2D(),
			fill: null,
			clip: null,
			band: null,
			gaps: null,
			flags: hr
		}, C = S.stroke, w = !1;
		if (i - r >= m * 4) {
			let t = (t) => e.posToVal(t, c.key, !0), n = null, a = null, l, u, d, f = _(o[x == 1 ? r : i]), p = _(o[r]), m = _(o[i]), h = t(x == 1 ? p + 1 : m - 1);
			for (let e = x == 1 ? r : i; e >= r && e <= i; e += x) {
				let r = o[e], i = (x == 1 ? r < h : r > h) ? f : _(r), c = s[e];
				i == f ? c == null ? c === null && (w = !0) : (u = c, n == null ? (y(C, i, v(u)), l = n = a = u) : u < n ? n = u : u > a && (a = u)) : (n != null && b(C, f, v(n), v(a), v(l), v(u)), c == null ? (n = a = null, c === null && (w = !0)) : (u = c, y(C, i, v(u)), n = a = l = u), f = i, h = t(f + x));
			}
			n != null && n != a && d != f && b(C, f, v(n), v(a), v(l), v(u));
		} else for (let e = x == 1 ? r : i; e >= r && e <= i; e += x) {
			let t = s[e];
			t === null ? w = !0 : t != null && y(C, _(o[e]), v(t));
		}
		let [T, E] = Y(e, n);
		if (a.fill != null || T != 0) {
			let t = S.fill = new Path2D(C), s = v(a.fillTo(e, n, a.min, a.max, T)), c = _(o[r]), l = _(o[i]);
			x == -1 && ([l, c] = [c, l]), y(t, l, s), y(t, c, s);
		}
		if (!a.spanGaps) {
			let l = [];
			w && l.push(...br(o, s, r, i, x, _, t)), S.gaps = l = a.gaps(e, n, r, i, l), S.clip = vr(l, c.ori, f, p, m, h);
		}
		return E != 0 && (S.band = E == 2 ? [X(e, n, r, i, C, -1), X(e, n, r, i, C, 1)] : X(e, n, r, i, C, E)), S;
	});
}
function Rr(e) {
	let t = L(e.align, 1), n = L(e.ascDesc, !1), r = L(e.alignGaps, 0), i = L(e.extend, !1);
	return (e, a, o, s) => J(e, a, (c, l, u, d, f, p, m, h, g, _, v) => {
		[o, s] = je(u, o, s);
		let y = c.pxRound, { left: b, width: x } = e.bbox, S = (e) => y(p(e, d, _, h)), C = (e) => y(m(e, f, v, g)), w = d.ori == 0 ? Tr : Er, T = {
			stroke: new Path2D(),
			fill: null,
			clip: null,
			band: null,
			gaps: null,
			flags: hr
		}, E = T.stroke, D = d.dir * (d.ori == 0 ? 1 : -1), ee = C(u[D == 1 ? o : s]), te = S(l[D == 1 ? o : s]), ne = te, re = te;
		i && t == -1 && (re = b, w(E, re, ee)), w(E, te, ee);
		for (let e = D == 1 ? o : s; e >= o && e <= s; e += D) {
			let n = u[e];
			if (n == null) continue;
			let r = S(l[e]), i = C(n);
			t == 1 ? w(E, r, ee) : w(E, ne, i), w(E, r, i), ee = i, ne = r;
		}
		let ie = ne;
		i && t == 1 && (ie = b + x, w(E, ie, ee));
		let [ae, oe] = Y(e, a);
		if (c.fill != null || ae != 0) {
			let t = T.fill = new Path2D(E), n = C(c.fillTo(e, a, c.min, c.max, ae));
			w(t, ie, n), w(t, re, n);
		}
		if (!c.spanGaps) {
			let i = [];
			i.push(...br(l, u, o, s, D, S, r));
			let f = c.width * M / 2, p = n || t == 1 ? f : -f, m = n || t == -1 ? -f : f;
			i.forEach((e) => {
				e[0] += p, e[1] += m;
			}), T.gaps = i = c.gaps(e, a, o, s, i), T.clip = vr(i, d.ori, h, g, _, v);
		}
		return oe != 0 && (T.band = oe == 2 ? [X(e, a, o, s, E, -1), X(e, a, o, s, E, 1)] : X(e, a, o, s, E, oe)), T;
	});
}
function zr(e, t, n, r, i, a, o = B) {
	if (e.length > 1) {
		let s = null;
		for (let c = 0, l = 1e400; c < e.length; c++) if (t[c] !== void 0) {
			if (s != null) {
				let t = We(e[c] - e[s]);
				t < l && (l = t, o = We(n(e[c], r, i, a) - n(e[s], r, i, a)));
			}
			s = c;
		}
	}
	return o;
}
function Br(e) {
	e ||= vt;
	let t = L(e.size, [
		.6,
		B,
		1
	]), n = e.align || 0, r = e.gap || 0, i = e.radius;
	i = i == null ? [0, 0] : typeof i == "number" ? [i, 0] : i;
	let a = V(i), o = 1 - t[0], s = L(t[1], B), c = L(t[2], 1), l = L(e.disp, vt), u = L(e.each, (e) => {}), { fill: d, stroke: f } = l;
	return (e, t, i, p) => J(e, t, (m, h, g, _, v, y, b, x, S, C, w) => {
		let T = m.pxRound, E = n, D = r * M, ee = s * M, te = c * M, ne, re;
		_.ori == 0 ? [ne, re] = a(e, t) : [re, ne] = a(e, t);
		let ie = _.dir * (_.ori == 0 ? 1 : -1), ae = _.ori == 0 ? Dr : Or, oe = _.ori == 0 ? u : (e, t, n, r, i, a, o) => {
			u(e, t, n, i, r, o, a);
		}, se = L(e.bands, yt).find((e) => e.series[0] == t), O = se == null ? 0 : se.dir, k = m.fillTo(e, t, m.min, m.max, O), ce = T(b(k, v, w, S)), le, A, ue, de = C, j = T(m.width * M), fe = !1, pe = null, me = null, he = null, N = null;
		d != null && (j == 0 || f != null) && (fe = !0, pe = d.values(e, t, i, p), me = /* @__PURE__ */ new Map(), new Set(pe).forEach((e) => {
			e != null && me.set(e, new Path2D());
		}), j > 0 && (he = f.values(e, t, i, p), N = /* @__PURE__ */ new Map(), new Set(he).forEach((e) => {
			e != null && N.set(e, new Path2D());
		})));
		let { x0: ge, size: _e } = l;
		if (ge != null && _e != null) {
			E = 1, h = ge.values(e, t, i, p), ge.unit == 2 && (h = h.map((t) => e.posToVal(x + t * C, _.key, !0)));
			let n = _e.values(e, t, i, p);
			A = _e.unit == 2 ? n[0] * C : y(n[0], _, C, x) - y(0, _, C, x), de = zr(h, g, y, _, C, x, de), ue = de - A + D;
		} else de = zr(h, g, y, _, C, x, de), ue = de * o + D, A = de - ue;
		ue < 1 && (ue = 0), j >= A / 2 && (j = 0), ue < 5 && (T = at);
		let ve = ue > 0, ye = de - ue - (ve ? j : 0);
		A = T(nt(ye, te, ee)), le = (E == 0 ? A / 2 : E == ie ? 0 : A) - E * ie * ((E == 0 ? D / 2 : 0) + (ve ? j / 2 : 0));
		let be = {
			stroke: null,
			fill: null,
			clip: null,
			band: null,
			gaps: null,
			flags: 0
		}, xe = fe ? null : new Path2D(), P = null;
		if (se != null) P = e.data[se.series[1]];
		else {
			let { y0: n, y1: r } = l;
			n != null && r != null && (g = r.values(e, t, i, p), P = n.values(e, t, i, p));
		}
		let Se = ne * A, Ce = re * A;
		for (let n = ie == 1 ? i : p; n >= i && n <= p; n += ie) {
			let r = g[n];
			if (r == null) continue;
			if (P != null) {
				let e = P[n] ?? 0;
				if (r - e == 0) continue;
				ce = b(e, v, w, S);
			}
			let i = y(_.distr != 2 || l != null ? h[n] : n, _, C, x), a = b(L(r, k), v, w, S), o = T(i - le), s = T(Ye(a, ce)), c = T(Je(a, ce)), u = s - c;
			if (r != null) {
				let i = r < 0 ? Ce : Se, a = r < 0 ? Se : Ce;
				fe ? (j > 0 && he[n] != null && ae(N.get(he[n]), o, c + Ge(j / 2), A, Ye(0, u - j), i, a), pe[n] != null && ae(me.get(pe[n]), o, c + Ge(j / 2), A, Ye(0, u - j), i, a)) : ae(xe, o, c + Ge(j / 2), A, Ye(0, u - j), i, a), oe(e, t, n, o - j / 2, c, A + j, u);
			}
		}
		return j > 0 ? be.stroke = fe ? N : xe : fe || (be._fill = m.width == 0 ? m._fill : m._stroke ?? m._fill, be.width = 0), be.fill = fe ? me : xe, be;
	});
}
function Vr(e, t) {
	let n = L(t?.alignGaps, 0);
	return (t, r, i, a) => J(t, r, (o, s, c, l, u, d, f, p, m, h, g) => {
		[i, a] = je(c, i, a);
		let _ = o.pxRound, v = (e) => _(d(e, l, h, p)), y = (e) => _(f(e, u, g, m)), b, x, S;
		l.ori == 0 ? (b = Cr, S = Tr, x = jr) : (b = wr, S = Er, x = Mr);
		let C = l.dir * (l.ori == 0 ? 1 : -1), w = v(s[C == 1 ? i : a]), T = w, E = [], D = [];
		for (let e = C == 1 ? i : a; e >= i && e <= a; e += C) if (c[e] != null) {
			let t = v(s[e]);
			E.push(T = t), D.push(y(c[e]));
		}
		let ee = {
			stroke: e(E, D, b, S, x, _),
			fill: null,
			clip: null,
			band: null,
			gaps: null,
			flags: hr
		}, te = ee.stroke, [ne, re] = Y(t, r);
		if (o.fill != null || ne != 0) {
			let e = ee.fill = new Path2D(te), n = y(o.fillTo(t, r, o.min, o.max, ne));
			S(e, T, n), S(e, w, n);
		}
		if (!o.spanGaps) {
			let e = [];
			e.push(...br(s, c, i, a, C, v, n)), ee.gaps = e = o.gaps(t, r, i, a, e), ee.clip = vr(e, l.ori, p, m, h, g);
		}
		return re != 0 && (ee.band = re == 2 ? [X(t, r, i, a, te, -1), X(t, r, i, a, te, 1)] : X(t, r, i, a, te, re)), ee;
	});
}
function Hr(e) {
	return Vr(Ur, e);
}
function Ur(e, t, n, r, i, a) {
	let o = e.length;
	if (o < 2) return null;
	let s = new Path2D();
	if (n(s, e[0], t[0]), o == 2) r(s, e[1], t[1]);
	else {
		let n = Array(o), r = Array(o - 1), a = Array(o - 1), c = Array(o - 1);
		for (let n = 0; n < o - 1; n++) a[n] = t[n + 1] - t[n], c[n] = e[n + 1] - e[n], r[n] = a[n] / c[n];
		n[0] = r[0];
		for (let e = 1; e < o - 1; e++) r[e] === 0 || r[e - 1] === 0 || r[e - 1] > 0 != r[e] > 0 ? n[e] = 0 : (n[e] = 3 * (c[e - 1] + c[e]) / ((2 * c[e] + c[e - 1]) / r[e - 1] + (c[e] + 2 * c[e - 1]) / r[e]), isFinite(n[e]) || (n[e] = 0));
		n[o - 1] = r[o - 2];
		for (let r = 0; r < o - 1; r++) i(s, e[r] + c[r] / 3, t[r] + n[r] * c[r] / 3, e[r + 1] - c[r] / 3, t[r + 1] - n[r + 1] * c[r] / 3, e[r + 1], t[r + 1]);
	}
	return s;
}
var Wr = /* @__PURE__ */ new Set();
function Gr() {
	for (let e of Wr) e.syncRect(!0);
}
A && (Te(se, de, Gr), Te(O, de, Gr, !0), Te(ce, de, () => {
	si.pxRatio = M;
}));
var Kr = Lr(), qr = Nr();
function Jr(e, t, n, r) {
	return (r ? [e[0], e[1]].concat(e.slice(2)) : [e[0]].concat(e.slice(1))).map((e, r) => Xr(e, r, t, n));
}
function Yr(e, t) {
	return e.map((e, n) => n == 0 ? {} : kt({}, t, e));
}
function Xr(e, t, n, r) {
	return kt({}, t == 0 ? n : r, e);
}
function Zr(e, t, n) {
	return t == null ? bt : [t, n];
}
var Qr = Zr;
function $r(e, t, n) {
	return t == null ? bt : Re(t, n, Fe, !0);
}
function ei(e, t, n, r) {
	return t == null ? bt : Ne(t, n, e.scales[r].log, !1);
}
var ti = ei;
function ni(e, t, n, r) {
	return t == null ? bt : Pe(t, n, e.scales[r].log, !1);
}
var ri = ni;
function ii(e, t, n, r, i) {
	let a = Ye(tt(e), tt(t)), o = t - e, s = De(i / r * o, n);
	do {
		let e = n[s], t = r * e / o;
		if (t >= i && a + (e < 5 ? ht.get(e) : 0) <= 17) return [e, t];
	} while (++s < n.length);
	return [0, 0];
}
function ai(e) {
	let t, n;
	return e = e.replace(/(\d+)px/, (e, r) => (t = Ke((n = +r) * M)) + "px"), [
		e,
		t,
		n
	];
}
function oi(e) {
	e.show && [e.font, e.labelFont].forEach((e) => {
		let t = H(e[2] * M, 1);
		e[0] = e[0].replace(/[0-9.]+px/, t + "px"), e[1] = t;
	});
}
function si(e, D, se) {
	let O = { mode: L(e.mode, 1) }, k = O.mode;
	function A(e, t, n, r) {
		let i = t.valToPct(e);
		return r + n * (t.dir == -1 ? 1 - i : i);
	}
	function j(e, t, n, r) {
		let i = t.valToPct(e);
		return r + n * (t.dir == -1 ? i : 1 - i);
	}
	function fe(e, t, n, r) {
		return t.ori == 0 ? A(e, t, n, r) : j(e, t, n, r);
	}
	O.valToPosH = A, O.valToPosV = j;
	let pe = !1;
	O.status = 0;
	let ve = O.root = _e(t);
	if (e.id != null && (ve.id = e.id), me(ve, e.class), e.title) {
		let t = _e(i, ve);
		t.textContent = e.title;
	}
	let be = ge("canvas"), P = O.ctx = be.getContext("2d"), Ce = _e(a, ve);
	Te("click", Ce, (e) => {
		e.target === Oe && (Z != Oi || Q != ki) && Ni.click(O, e);
	}, !0);
	let we = O.under = _e(o, Ce);
	Ce.appendChild(be);
	let Oe = O.over = _e(s, Ce);
	e = Ot(e);
	let ke = +L(e.pxAlign, 1), Ae = xr(ke);
	(e.plugins || []).forEach((t) => {
		t.opts && (e = t.opts(O, e) || e);
	});
	let je = e.ms || .001, F = O.series = k == 1 ? Jr(e.series || [], Wn, lr, !1) : Yr(e.series || [null], cr), Le = O.axes = Jr(e.axes || [], Vn, rr, !0), I = O.scales = {}, Be = O.bands = e.bands || [];
	Be.forEach((e) => {
		e.fill = V(e.fill || null), e.dir = L(e.dir, -1);
	});
	let R = k == 2 ? F[1].facets[0].scale : F[0].scale, Ve = {
		axes: pi,
		series: Br
	}, He = (e.drawOrder || ["axes", "series"]).map((e) => Ve[e]);
	function Ge(e) {
		let t = e.distr == 3 ? (t) => Qe(t > 0 ? t : e.clamp(O, t, e.min, e.max, e.key)) : e.distr == 4 ? (t) => et(t, e.asinh) : e.distr == 100 ? (t) => e.fwd(t) : (e) => e;
		return (n) => {
			let r = t(n), { _min: i, _max: a } = e, o = a - i;
			return (r - i) / o;
		};
	}
	function Ze(t) {
		let n = I[t];
		if (n == null) {
			let r = (e.scales || vt)[t] || vt;
			if (r.from != null) {
				Ze(r.from);
				let e = kt({}, I[r.from], r, { key: t });
				e.valToPct = Ge(e), I[t] = e;
			} else {
				n = I[t] = kt({}, t == R ? dr : fr, r), n.key = t;
				let e = n.time, i = n.range, a = xt(i);
				if ((t != R || k == 2 && !e) && (a && (i[0] == null || i[1] == null) && (i = {
					min: i[0] == null ? Ie : {
						mode: 1,
						hard: i[0],
						soft: i[0]
					},
					max: i[1] == null ? Ie : {
						mode: 1,
						hard: i[1],
						soft: i[1]
					}
				}, a = !1), !a && Tt(i))) {
					let e = i;
					i = (t, n, r) => n == null ? bt : Re(n, r, e);
				}
				n.range = V(i || (e ? Qr : t == R ? n.distr == 3 ? ti : n.distr == 4 ? ri : Zr : n.distr == 3 ? ei : n.distr == 4 ? ni : $r)), n.auto = V(!a && n.auto), n.clamp = V(n.clamp || ur), n._min = n._max = null, n.valToPct = Ge(n);
			}
		}
	}
	Ze("x"), Ze("y"), k == 1 && F.forEach((e) => {
		Ze(e.scale);
	}), Le.forEach((e) => {
		Ze(e.scale);
	});
	for (let t in e.scales) Ze(t);
	let z = I[R], tt = z.distr, it, at;
	z.ori == 0 ? (me(ve, n), it = A, at = j) : (me(ve, r), it = j, at = A);
	let ut = {};
	for (let e in I) {
		let t = I[e];
		(t.min != null || t.max != null) && (ut[e] = {
			min: t.min,
			max: t.max
		}, t.min = t.max = null);
	}
	let dt = e.tzDate || ((e) => new Date(Ke(e / je))), pt = e.fmtDate || Gt, mt = je == 1 ? dn(dt) : mn(dt), _t = gn(dt, hn(je == 1 ? un : pn, pt)), St = xn(dt, yn(bn, pt)), Dt = [], U = O.legend = kt({}, wn, e.legend), W = O.cursor = kt({}, Nn, { drag: { y: k == 2 } }, e.cursor), At = U.show, jt = W.show, Mt = U.markers;
	U.idxs = Dt, Mt.width = V(Mt.width), Mt.dash = V(Mt.dash), Mt.stroke = V(Mt.stroke), Mt.fill = V(Mt.fill);
	let Pt, Ft, It, Lt = [], Rt = [], zt, Bt = !1, Vt = {};
	if (U.live) {
		let e = F[1] ? F[1].values : null;
		Bt = e != null, zt = Bt ? e(O, 1, 0) : { _: 0 };
		for (let e in zt) Vt[e] = le;
	}
	if (At) {
		if (Pt = ge("table", m, ve), It = ge("tbody", null, Pt), U.mount(O, Pt), Bt) {
			Ft = ge("thead", null, Pt, It);
			let e = ge("tr", null, Ft);
			for (var Ht in ge("th", null, e), zt) ge("th", y, e).textContent = Ht;
		} else me(Pt, g), U.live && me(Pt, h);
	}
	let Ut = { show: !0 }, Wt = { show: !1 };
	function Kt(e, t) {
		if (t == 0 && (Bt || !U.live || k == 2)) return bt;
		let n = [], r = ge("tr", _, It, It.childNodes[t]);
		me(r, e.class), e.show || me(r, l);
		let i = ge("th", null, r);
		if (Mt.show) {
			let e = _e(v, i);
			if (t > 0) {
				let n = Mt.width(O, t);
				n && (e.style.border = n + "px " + Mt.dash(O, t) + " " + Mt.stroke(O, t)), e.style.background = Mt.fill(O, t);
			}
		}
		let a = _e(y, i);
		for (var o in e.label instanceof HTMLElement ? a.appendChild(e.label) : a.textContent = e.label, t > 0 && (Mt.show || (a.style.color = e.width > 0 ? Mt.stroke(O, t) : Mt.fill(O, t)), Jt("click", i, (t) => {
			if (W._lock) return;
			Fn(t);
			let n = F.indexOf(e);
			if ((t.ctrlKey || t.metaKey) != U.isolate) {
				let e = F.some((e, t) => t > 0 && t != n && e.show);
				F.forEach((t, r) => {
					r > 0 && Bi(r, e ? r == n ? Ut : Wt : Ut, !0, xa.setSeries);
				});
			} else Bi(n, { show: !e.show }, !0, xa.setSeries);
		}, !1), Rn && Jt(ie, i, (t) => {
			W._lock || (Fn(t), Bi(F.indexOf(e), Gi, !0, xa.setSeries));
		}, !1)), zt) {
			let e = ge("td", b, r);
			e.textContent = "--", n.push(e);
		}
		return [r, n];
	}
	let qt = /* @__PURE__ */ new Map();
	function Jt(e, t, n, r = !0) {
		let i = qt.get(t) || {}, a = W.bind[e](O, t, n, r);
		a && (Te(e, t, i[e] = a), qt.set(t, i));
	}
	function Yt(e, t, n) {
		let r = qt.get(t) || {};
		for (let n in r) (e == null || n == e) && (Ee(n, t, r[n]), delete r[n]);
		e ?? qt.delete(t);
	}
	let Xt = 0, $t = 0, G = 0, K = 0, en = 0, tn = 0, nn = en, rn = tn, an = G, on = K, sn = 0, q = 0, cn = 0, vn = 0;
	O.bbox = {};
	let Sn = !1, Cn = !1, Tn = !1, En = !1, Dn = !1, On = !1;
	function kn(e, t, n) {
		(n || e != O.width || t != O.height) && An(e, t), mi(!1), Tn = !0, Cn = !0, yi();
	}
	function An(e, t) {
		O.width = Xt = G = e, O.height = $t = K = t, en = tn = 0, Mn(), Pn();
		let n = O.bbox;
		sn = n.left = ft(en * M, .5), q = n.top = ft(tn * M, .5), cn = n.width = ft(G * M, .5), vn = n.height = ft(K * M, .5);
	}
	function jn() {
		let e = !1, t = 0;
		for (; !e;) {
			t++;
			let n = di(t), r = fi(t);
			e = t == 3 || n && r, e || (An(O.width, O.height), Cn = !0);
		}
	}
	O.setSize = function({ width: e, height: t }) {
		kn(e, t);
	};
	function Mn() {
		let e = !1, t = !1, n = !1, r = !1;
		Le.forEach((i, a) => {
			if (i.show && i._show) {
				let { side: a, _size: o } = i, s = a % 2, c = o + (i.label == null ? 0 : i.labelSize);
				c > 0 && (s ? (G -= c, a == 3 ? (en += c, r = !0) : n = !0) : (K -= c, a == 0 ? (tn += c, e = !0) : t = !0));
			}
		}), $n[0] = e, $n[1] = n, $n[2] = t, $n[3] = r, G -= pr[1] + pr[3], en += pr[3], K -= pr[2] + pr[0], tn += pr[0];
	}
	function Pn() {
		let e = en + G, t = tn + K, n = en, r = tn;
		function i(i, a) {
			switch (i) {
				case 1: return e += a, e - a;
				case 2: return t += a, t - a;
				case 3: return n -= a, n + a;
				case 0: return r -= a, r + a;
			}
		}
		Le.forEach((e, t) => {
			if (e.show && e._show) {
				let t = e.side;
				e._pos = i(t, e._size), e.label != null && (e._lpos = i(t, e.labelSize));
			}
		});
	}
	if (W.dataIdx == null) {
		let e = W.hover, t = e.skip = new Set(e.skip ?? []);
		t.add(void 0);
		let n = e.prox = V(e.prox), r = e.bias ??= 0;
		W.dataIdx = (e, i, a, o) => {
			if (i == 0) return a;
			let s = a, c = n(e, i, a, o) ?? B, l = c >= 0 && c < B, u = z.ori == 0 ? G : K, d = W.left, f = D[0], p = D[i];
			if (t.has(p[a])) {
				s = null;
				let e = null, n = null, i;
				if (r == 0 || r == -1) for (i = a; e == null && i-- > 0;) t.has(p[i]) || (e = i);
				if (r == 0 || r == 1) for (i = a; n == null && i++ < p.length;) t.has(p[i]) || (n = i);
				if (e != null || n != null) {
					if (l) {
						let t = e == null ? -1e400 : it(f[e], z, u, 0), r = n == null ? 1e400 : it(f[n], z, u, 0), i = d - t, a = r - d;
						i <= a ? i <= c && (s = e) : a <= c && (s = n);
					} else s = n == null ? e : e == null ? n : a - e <= n - a ? e : n;
				}
			} else l && We(d - it(f[a], z, u, 0)) > c && (s = null);
			return s;
		};
	}
	let Fn = (e) => {
		W.event = e;
	};
	W.idxs = Dt, W._lock = !1;
	let In = W.points;
	In.show = V(In.show), In.size = V(In.size), In.stroke = V(In.stroke), In.width = V(In.width), In.fill = V(In.fill);
	let Ln = O.focus = kt({}, e.focus || { alpha: .3 }, W.focus), Rn = Ln.prox >= 0, zn = Rn && In.one, Bn = [], Yn = [], Xn = [];
	function Zn(e, t) {
		let n = In.show(O, t);
		if (n instanceof HTMLElement) return me(n, p), me(n, e.class), ye(n, -10, -10, G, K), Oe.insertBefore(n, Bn[t]), n;
	}
	function Qn(e, t) {
		if (k == 1 || t > 0) {
			let t = k == 1 && I[e.scale].time, n = e.value;
			e.value = t ? wt(n) ? xn(dt, yn(n, pt)) : n || St : n || nr, e.label = e.label || (t ? Un : Hn);
		}
		if (zn || t > 0) {
			e.width = e.width == null ? 1 : e.width, e.paths = e.paths || Kr || st, e.fillTo = V(e.fillTo || _r), e.pxAlign = +L(e.pxAlign, ke), e.pxRound = xr(e.pxAlign), e.stroke = V(e.stroke || null), e.fill = V(e.fill || null), e._stroke = e._fill = e._paths = e._focus = null;
			let t = ir(Ye(1, e.width), 1), n = e.points = kt({}, {
				size: t,
				width: Ye(1, t * .2),
				stroke: e.stroke,
				space: t * 2,
				paths: qr,
				_stroke: null,
				_fill: null
			}, e.points);
			n.show = V(n.show), n.filter = V(n.filter), n.fill = V(n.fill), n.stroke = V(n.stroke), n.paths = V(n.paths), n.pxAlign = e.pxAlign;
		}
		if (At) {
			let n = Kt(e, t);
			Lt.splice(t, 0, n[0]), Rt.splice(t, 0, n[1]), U.values.push(null);
		}
		if (jt) {
			Dt.splice(t, 0, null);
			let n = null;
			zn ? t == 0 && (n = Zn(e, t)) : t > 0 && (n = Zn(e, t)), Bn.splice(t, 0, n), Yn.splice(t, 0, 0), Xn.splice(t, 0, 0);
		}
		ya("addSeries", t);
	}
	O.addSeries = function(e, t) {
		t ??= F.length, e = k == 1 ? Xr(e, t, Wn, lr) : Xr(e, t, {}, cr), F.splice(t, 0, e), Qn(F[t], t);
	}, O.delSeries = function(e) {
		if (F.splice(e, 1), At) {
			U.values.splice(e, 1), Rt.splice(e, 1);
			let t = Lt.splice(e, 1)[0];
			Yt(null, t.firstChild), t.remove();
		}
		jt && (Dt.splice(e, 1), Bn.splice(e, 1)[0].remove(), Yn.splice(e, 1), Xn.splice(e, 1)), ya("delSeries", e);
	};
	let $n = [
		!1,
		!1,
		!1,
		!1
	];
	function ar(e, t) {
		if (e._show = e.show, e.show) {
			let n = e.side % 2, r = I[e.scale];
			r ??= (e.scale = n ? F[1].scale : R, I[e.scale]);
			let i = r.time;
			e.size = V(e.size), e.space = V(e.space), e.rotate = V(e.rotate), xt(e.incrs) && e.incrs.forEach((e) => {
				!ht.has(e) && ht.set(e, gt(e));
			}), e.incrs = V(e.incrs || (r.distr == 2 ? Zt : i ? je == 1 ? ln : fn : Qt)), e.splits = V(e.splits || (i && r.distr == 1 ? mt : r.distr == 3 ? qn : r.distr == 4 ? Jn : Kn)), e.stroke = V(e.stroke), e.grid.stroke = V(e.grid.stroke), e.ticks.stroke = V(e.ticks.stroke), e.border.stroke = V(e.border.stroke);
			let a = e.values;
			e.values = xt(a) && !xt(a[0]) ? V(a) : i ? xt(a) ? gn(dt, hn(a, pt)) : wt(a) ? _n(dt, a) : a || _t : a || Gn, e.filter = V(e.filter || (r.distr >= 3 && r.log == 10 ? er : r.distr == 3 && r.log == 2 ? tr : ot)), e.font = ai(e.font), e.labelFont = ai(e.labelFont), e._size = e.size(O, null, t, 0), e._space = e._rotate = e._incrs = e._found = e._splits = e._values = null, e._size > 0 && ($n[t] = !0, e._el = _e(c, Ce));
		}
	}
	function or(e, t, n, r) {
		let [i, a, o, s] = n, c = t % 2, l = 0;
		return c == 0 && (s || a) && (l = t == 0 && !i || t == 2 && !o ? Ke(Vn.size / 3) : 0), c == 1 && (i || o) && (l = t == 1 && !a || t == 3 && !s ? Ke(rr.size / 2) : 0), l;
	}
	let sr = O.padding = (e.padding || [
		or,
		or,
		or,
		or
	]).map((e) => V(L(e, or))), pr = O._padding = sr.map((e, t) => e(O, t, $n, 0)), J, Y = null, X = null, vr = k == 1 ? F[0].idxs : null, yr = null, br = !1;
	function Sr(e, t) {
		if (D = e ?? [], O.data = O._data = D, k == 2) {
			J = 0;
			for (let e = 1; e < F.length; e++) J += D[e][0].length;
		} else {
			D.length == 0 && (O.data = O._data = D = [[]]), yr = D[0], J = yr.length;
			let e = D;
			if (tt == 2) {
				e = D.slice();
				let t = e[0] = Array(J);
				for (let e = 0; e < J; e++) t[e] = e;
			}
			O._data = D = e;
		}
		if (mi(!0), ya("setData"), tt == 2 && (Tn = !0), t !== !1) {
			let e = z;
			e.auto(O, br) ? Cr() : zi(R, e.min, e.max), En ||= W.left >= 0, On = !0, yi();
		}
	}
	O.setData = Sr;
	function Cr() {
		br = !0;
		let e, t;
		k == 1 && (J > 0 ? (Y = vr[0] = 0, X = vr[1] = J - 1, e = D[0][Y], t = D[0][X], tt == 2 ? (e = Y, t = X) : e == t && (tt == 3 ? [e, t] = Ne(e, e, z.log, !1) : tt == 4 ? [e, t] = Pe(e, e, z.log, !1) : z.time ? t = e + Ke(86400 / je) : [e, t] = Re(e, t, Fe, !0))) : (Y = vr[0] = e = null, X = vr[1] = t = null)), zi(R, e, t);
	}
	let wr, Tr, Er, Dr, Or, kr, Ar, jr, Mr, Nr;
	function Pr(e, t, n, r, i, a) {
		e ??= ee, n ??= yt, r ??= "butt", i ??= ee, a ??= "round", e != wr && (P.strokeStyle = wr = e), i != Tr && (P.fillStyle = Tr = i), t != Er && (P.lineWidth = Er = t), a != Or && (P.lineJoin = Or = a), r != kr && (P.lineCap = kr = r), n != Dr && P.setLineDash(Dr = n);
	}
	function Fr(e, t, n, r) {
		t != Tr && (P.fillStyle = Tr = t), e != Ar && (P.font = Ar = e), n != jr && (P.textAlign = jr = n), r != Mr && (P.textBaseline = Mr = r);
	}
	function Ir(e, t, n, r, i = 0) {
		if (r.length > 0 && e.auto(O, br) && (t == null || t.min == null)) {
			let t = L(Y, 0), a = L(X, r.length - 1), o = n.min == null ? Me(r, t, a, i, e.distr == 3) : [n.min, n.max];
			e.min = Je(e.min, n.min = o[0]), e.max = Ye(e.max, n.max = o[1]);
		}
	}
	let Lr = {
		min: null,
		max: null
	};
	function Rr() {
		for (let e in I) {
			let t = I[e];
			ut[e] == null && (t.min == null || ut[R] != null && t.auto(O, br)) && (ut[e] = Lr);
		}
		for (let e in I) {
			let t = I[e];
			ut[e] == null && t.from != null && ut[t.from] != null && (ut[e] = Lr);
		}
		ut[R] != null && mi(!0);
		let e = {};
		for (let t in ut) {
			let n = ut[t];
			if (n != null) {
				let r = e[t] = Ot(I[t], Et);
				if (n.min != null) kt(r, n);
				else if (t != R || k == 2) {
					if (J == 0 && r.from == null) {
						let e = r.range(O, null, null, t);
						r.min = e[0], r.max = e[1];
					} else r.min = B, r.max = -1e400;
				}
			}
		}
		if (J > 0) {
			F.forEach((t, n) => {
				if (k == 1) {
					let r = t.scale, i = ut[r];
					if (i == null) return;
					let a = e[r];
					if (n == 0) {
						let e = a.range(O, a.min, a.max, r);
						a.min = e[0], a.max = e[1], Y = De(a.min, D[0]), X = De(a.max, D[0]), X - Y > 1 && (D[0][Y] < a.min && Y++, D[0][X] > a.max && X--), t.min = yr[Y], t.max = yr[X];
					} else t.show && t.auto && Ir(a, i, t, D[n], t.sorted);
					t.idxs[0] = Y, t.idxs[1] = X;
				} else if (n > 0 && t.show && t.auto) {
					let [r, i] = t.facets, a = r.scale, o = i.scale, [s, c] = D[n], l = e[a], u = e[o];
					l != null && Ir(l, ut[a], r, s, r.sorted), u != null && Ir(u, ut[o], i, c, i.sorted), t.min = i.min, t.max = i.max;
				}
			});
			for (let t in e) {
				let n = e[t], r = ut[t];
				if (n.from == null && (r == null || r.min == null)) {
					let e = n.range(O, n.min == B ? null : n.min, n.max == -1e400 ? null : n.max, t);
					n.min = e[0], n.max = e[1];
				}
			}
		}
		for (let t in e) {
			let n = e[t];
			if (n.from != null) {
				let r = e[n.from];
				if (r.min == null) n.min = n.max = null;
				else {
					let e = n.range(O, r.min, r.max, t);
					n.min = e[0], n.max = e[1];
				}
			}
		}
		let t = {}, n = !1;
		for (let r in e) {
			let i = e[r], a = I[r];
			if (a.min != i.min || a.max != i.max) {
				a.min = i.min, a.max = i.max;
				let e = a.distr;
				a._min = e == 3 ? Qe(a.min) : e == 4 ? et(a.min, a.asinh) : e == 100 ? a.fwd(a.min) : a.min, a._max = e == 3 ? Qe(a.max) : e == 4 ? et(a.max, a.asinh) : e == 100 ? a.fwd(a.max) : a.max, t[r] = n = !0;
			}
		}
		if (n) {
			F.forEach((e, n) => {
				k == 2 ? n > 0 && t.y && (e._paths = null) : t[e.scale] && (e._paths = null);
			});
			for (let e in t) Tn = !0, ya("setScale", e);
			jt && W.left >= 0 && (En = On = !0);
		}
		for (let e in ut) ut[e] = null;
	}
	function zr(e) {
		let t = nt(Y - 1, 0, J - 1), n = nt(X + 1, 0, J - 1);
		for (; e[t] == null && t > 0;) t--;
		for (; e[n] == null && n < J - 1;) n++;
		return [t, n];
	}
	function Br() {
		if (J > 0) {
			let e = F.some((e) => e._focus) && Nr != Ln.alpha;
			e && (P.globalAlpha = Nr = Ln.alpha), F.forEach((e, t) => {
				if (t > 0 && e.show && (Vr(t, !1), Vr(t, !0), e._paths == null)) {
					let n = Nr;
					Nr != e.alpha && (P.globalAlpha = Nr = e.alpha);
					let r = k == 2 ? [0, D[t][0].length - 1] : zr(D[t]);
					e._paths = e.paths(O, t, r[0], r[1]), Nr != n && (P.globalAlpha = Nr = n);
				}
			}), F.forEach((e, t) => {
				if (t > 0 && e.show) {
					let n = Nr;
					Nr != e.alpha && (P.globalAlpha = Nr = e.alpha), e._paths != null && Hr(t, !1);
					{
						let n = e._paths == null ? null : e._paths.gaps, r = e.points.show(O, t, Y, X, n), i = e.points.filter(O, t, r, n);
						(r || i) && (e.points._paths = e.points.paths(O, t, Y, X, i), Hr(t, !0));
					}
					Nr != n && (P.globalAlpha = Nr = n), ya("drawSeries", t);
				}
			}), e && (P.globalAlpha = Nr = 1);
		}
	}
	function Vr(e, t) {
		let n = t ? F[e].points : F[e];
		n._stroke = n.stroke(O, e), n._fill = n.fill(O, e);
	}
	function Hr(e, t) {
		let n = t ? F[e].points : F[e], { stroke: r, fill: i, clip: a, flags: o, _stroke: s = n._stroke, _fill: c = n._fill, _width: l = n.width } = n._paths;
		l = H(l * M, 3);
		let u = null, d = l % 2 / 2;
		t && c == null && (c = l > 0 ? "#fff" : s);
		let f = n.pxAlign == 1 && d > 0;
		if (f && P.translate(d, d), !t) {
			let e = sn - l / 2, t = q - l / 2, n = cn + l, r = vn + l;
			u = new Path2D(), u.rect(e, t, n, r);
		}
		t ? Gr(s, l, n.dash, n.cap, c, r, i, o, a) : Ur(e, s, l, n.dash, n.cap, c, r, i, o, u, a), f && P.translate(-d, -d);
	}
	function Ur(e, t, n, r, i, a, o, s, c, l, u) {
		let d = !1;
		c != 0 && Be.forEach((f, p) => {
			if (f.series[0] == e) {
				let e = F[f.series[1]], m = D[f.series[1]], h = (e._paths || vt).band;
				xt(h) && (h = f.dir == 1 ? h[0] : h[1]);
				let g, _ = null;
				e.show && h && ze(m, Y, X) ? (_ = f.fill(O, p) || a, g = e._paths.clip) : h = null, Gr(t, n, r, i, _, o, s, c, l, u, g, h), d = !0;
			}
		}), d || Gr(t, n, r, i, a, o, s, c, l, u);
	}
	function Gr(e, t, n, r, i, a, o, s, c, l, u, d) {
		Pr(e, t, n, r, i), (c || l || d) && (P.save(), c && P.clip(c), l && P.clip(l)), d ? (s & 3) == 3 ? (P.clip(d), u && P.clip(u), ci(i, o), si(e, a, t)) : s & gr ? (ci(i, o), P.clip(d), si(e, a, t)) : s & hr && (P.save(), P.clip(d), u && P.clip(u), ci(i, o), P.restore(), si(e, a, t)) : (ci(i, o), si(e, a, t)), (c || l || d) && P.restore();
	}
	function si(e, t, n) {
		n > 0 && (t instanceof Map ? t.forEach((e, t) => {
			P.strokeStyle = wr = t, P.stroke(e);
		}) : t != null && e && P.stroke(t));
	}
	function ci(e, t) {
		t instanceof Map ? t.forEach((e, t) => {
			P.fillStyle = Tr = t, P.fill(e);
		}) : t != null && e && P.fill(t);
	}
	function li(e, t, n, r) {
		let i = Le[e], a;
		if (r <= 0) a = [0, 0];
		else {
			let o = i._space = i.space(O, e, t, n, r);
			a = ii(t, n, i._incrs = i.incrs(O, e, t, n, r, o), r, o);
		}
		return i._found = a;
	}
	function ui(e, t, n, r, i, a, o, s, c, l) {
		let u = o % 2 / 2;
		ke == 1 && P.translate(u, u), Pr(s, o, c, l, s), P.beginPath();
		let d, f, p, m, h = i + (r == 0 || r == 3 ? -a : a);
		n == 0 ? (f = i, m = h) : (d = i, p = h);
		for (let r = 0; r < e.length; r++) t[r] != null && (n == 0 ? d = p = e[r] : f = m = e[r], P.moveTo(d, f), P.lineTo(p, m));
		P.stroke(), ke == 1 && P.translate(-u, -u);
	}
	function di(e) {
		let t = !0;
		return Le.forEach((n, r) => {
			if (!n.show) return;
			let i = I[n.scale];
			if (i.min == null) {
				n._show && (t = !1, n._show = !1, mi(!1));
				return;
			}
			n._show || (t = !1, n._show = !0, mi(!1));
			let a = n.side, o = a % 2, { min: s, max: c } = i, [l, u] = li(r, s, c, o == 0 ? G : K);
			if (u == 0) return;
			let d = i.distr == 2, f = n._splits = n.splits(O, r, s, c, l, u, d), p = i.distr == 2 ? f.map((e) => yr[e]) : f, m = i.distr == 2 ? yr[f[1]] - yr[f[0]] : l, h = n._values = n.values(O, n.filter(O, p, r, u, m), r, u, m);
			n._rotate = a == 2 ? n.rotate(O, h, r, u) : 0;
			let g = n._size;
			n._size = qe(n.size(O, h, r, e)), g != null && n._size != g && (t = !1);
		}), t;
	}
	function fi(e) {
		let t = !0;
		return sr.forEach((n, r) => {
			let i = n(O, r, $n, e);
			i != pr[r] && (t = !1), pr[r] = i;
		}), t;
	}
	function pi() {
		for (let e = 0; e < Le.length; e++) {
			let t = Le[e];
			if (!t.show || !t._show) continue;
			let n = t.side, r = n % 2, i, a, o = t.stroke(O, e), s = n == 0 || n == 3 ? -1 : 1, [c, l] = t._found;
			if (t.label != null) {
				let u = t.labelGap * s, d = Ke((t._lpos + u) * M);
				Fr(t.labelFont[0], o, "center", n == 2 ? C : w), P.save(), r == 1 ? (i = a = 0, P.translate(d, Ke(q + vn / 2)), P.rotate((n == 3 ? -Ue : Ue) / 2)) : (i = Ke(sn + cn / 2), a = d);
				let f = rt(t.label) ? t.label(O, e, c, l) : t.label;
				P.fillText(f, i, a), P.restore();
			}
			if (l == 0) continue;
			let u = I[t.scale], d = r == 0 ? cn : vn, f = r == 0 ? sn : q, p = t._splits, m = u.distr == 2 ? p.map((e) => yr[e]) : p, h = u.distr == 2 ? yr[p[1]] - yr[p[0]] : c, g = t.ticks, _ = t.border, v = g.show ? g.size : 0, y = Ke(v * M), b = Ke((t.alignTo == 2 ? t._size - v - t.gap : t.gap) * M), x = t._rotate * -Ue / 180, S = Ae(t._pos * M), D = S + (y + b) * s;
			a = r == 0 ? D : 0, i = r == 1 ? D : 0, Fr(t.font[0], o, t.align == 1 ? T : t.align == 2 ? E : x > 0 ? T : x < 0 ? E : r == 0 ? "center" : n == 3 ? E : T, x || r == 1 ? "middle" : n == 2 ? C : w);
			let ee = t.font[1] * t.lineGap, te = p.map((e) => Ae(fe(e, u, d, f))), ne = t._values;
			for (let e = 0; e < ne.length; e++) {
				let t = ne[e];
				if (t != null) {
					r == 0 ? i = te[e] : a = te[e], t = "" + t;
					let n = t.indexOf("\n") == -1 ? [t] : t.split(/\n/gm);
					for (let e = 0; e < n.length; e++) {
						let t = n[e];
						x ? (P.save(), P.translate(i, a + e * ee), P.rotate(x), P.fillText(t, 0, 0), P.restore()) : P.fillText(t, i, a + e * ee);
					}
				}
			}
			g.show && ui(te, g.filter(O, m, e, l, h), r, n, S, y, H(g.width * M, 3), g.stroke(O, e), g.dash, g.cap);
			let re = t.grid;
			re.show && ui(te, re.filter(O, m, e, l, h), r, r == 0 ? 2 : 1, r == 0 ? q : sn, r == 0 ? vn : cn, H(re.width * M, 3), re.stroke(O, e), re.dash, re.cap), _.show && ui([S], [1], +(r == 0), r == 0 ? 1 : 2, r == 1 ? q : sn, r == 1 ? vn : cn, H(_.width * M, 3), _.stroke(O, e), _.dash, _.cap);
		}
		ya("drawAxes");
	}
	function mi(e) {
		F.forEach((t, n) => {
			n > 0 && (t._paths = null, e && (k == 1 ? (t.min = null, t.max = null) : t.facets.forEach((e) => {
				e.min = null, e.max = null;
			})));
		});
	}
	let hi = !1, gi = !1, _i = [];
	function vi() {
		gi = !1;
		for (let e = 0; e < _i.length; e++) ya(..._i[e]);
		_i.length = 0;
	}
	function yi() {
		hi ||= (Nt(bi), !0);
	}
	O.batch = function(e, t = !1) {
		hi = !0, gi = t, e(O), bi(), t && _i.length > 0 && queueMicrotask(vi);
	};
	function bi() {
		if (Sn &&= (Rr(), !1), Tn &&= (jn(), !1), Cn) {
			if (N(we, T, en), N(we, C, tn), N(we, x, G), N(we, S, K), N(Oe, T, en), N(Oe, C, tn), N(Oe, x, G), N(Oe, S, K), N(Ce, x, Xt), N(Ce, S, $t), be.width = Ke(Xt * M), be.height = Ke($t * M), Le.forEach(({ _el: e, _show: t, _size: n, _pos: r, side: i }) => {
				if (e != null) {
					if (t) {
						let t = i === 3 || i === 0 ? n : 0, a = i % 2 == 1;
						N(e, a ? "left" : "top", r - t), N(e, a ? "width" : "height", n), N(e, a ? "top" : "left", a ? tn : en), N(e, a ? "height" : "width", a ? K : G), he(e, l);
					} else me(e, l);
				}
			}), wr = Tr = Er = Or = kr = Ar = jr = Mr = Dr = null, Nr = 1, ra(!0), en != nn || tn != rn || G != an || K != on) {
				mi(!1);
				let e = G / an, t = K / on;
				if (jt && !En && W.left >= 0) {
					W.left *= e, W.top *= t, wi && ye(wi, Ke(W.left), 0, G, K), Ti && ye(Ti, 0, Ke(W.top), G, K);
					for (let n = 0; n < Bn.length; n++) {
						let r = Bn[n];
						r != null && (Yn[n] *= e, Xn[n] *= t, ye(r, qe(Yn[n]), qe(Xn[n]), G, K));
					}
				}
				if ($.show && !Dn && $.left >= 0 && $.width > 0) {
					$.left *= e, $.width *= e, $.top *= t, $.height *= t;
					for (let e in oa) N(Ii, e, $[e]);
				}
				nn = en, rn = tn, an = G, on = K;
			}
			ya("setSize"), Cn = !1;
		}
		Xt > 0 && $t > 0 && (P.clearRect(0, 0, be.width, be.height), ya("drawClear"), He.forEach((e) => e()), ya("draw")), $.show && Dn && (Li($), Dn = !1), jt && En && (ta(null, !0, !1), En = !1), U.show && U.live && On && ($i(), On = !1), pe || (pe = !0, O.status = 1, ya("ready")), br = !1, hi = !1;
	}
	O.redraw = (e, t) => {
		Tn = t || !1, e === !1 ? yi() : zi(R, z.min, z.max);
	};
	function xi(e, t) {
		let n = I[e];
		if (n.from == null) {
			if (J == 0) {
				let r = n.range(O, t.min, t.max, e);
				t.min = r[0], t.max = r[1];
			}
			if (t.min > t.max) {
				let e = t.min;
				t.min = t.max, t.max = e;
			}
			if (J > 1 && t.min != null && t.max != null && t.max - t.min < 1e-16) return;
			e == R && n.distr == 2 && J > 0 && (t.min = De(t.min, D[0]), t.max = De(t.max, D[0]), t.min == t.max && t.max++), ut[e] = t, Sn = !0, yi();
		}
	}
	O.setScale = xi;
	let Si, Ci, wi, Ti, Ei, Di, Oi, ki, Ai, ji, Z, Q, Mi = !1, Ni = W.drag, Pi = Ni.x, Fi = Ni.y;
	jt && (W.x && (Si = _e(d, Oe)), W.y && (Ci = _e(f, Oe)), z.ori == 0 ? (wi = Si, Ti = Ci) : (wi = Ci, Ti = Si), Z = W.left, Q = W.top);
	let $ = O.select = kt({
		show: !0,
		over: !0,
		left: 0,
		width: 0,
		top: 0,
		height: 0
	}, e.select), Ii = $.show ? _e(u, $.over ? Oe : we) : null;
	function Li(e, t) {
		if ($.show) {
			for (let t in e) $[t] = e[t], t in oa && N(Ii, t, e[t]);
			t !== !1 && ya("setSelect");
		}
	}
	O.setSelect = Li;
	function Ri(e) {
		if (F[e].show) At && he(Lt[e], l);
		else if (At && me(Lt[e], l), jt) {
			let t = zn ? Bn[0] : Bn[e];
			t != null && ye(t, -10, -10, G, K);
		}
	}
	function zi(e, t, n) {
		xi(e, {
			min: t,
			max: n
		});
	}
	function Bi(e, t, n, r) {
		t.focus != null && Ki(e), t.show != null && F.forEach((n, r) => {
			r > 0 && (e == r || e == null) && (n.show = t.show, Ri(r), k == 2 ? (zi(n.facets[0].scale, null, null), zi(n.facets[1].scale, null, null)) : zi(n.scale, null, null), yi());
		}), n !== !1 && ya("setSeries", e, t), r && wa("setSeries", O, e, t);
	}
	O.setSeries = Bi, O.addBand = function(e, t) {
		e.fill = V(e.fill || null), e.dir = L(e.dir, -1), t ??= Be.length, Be.splice(t, 0, e);
	}, O.setBand = function(e, t) {
		kt(Be[e], t);
	}, O.delBand = function(e) {
		e == null ? Be.length = 0 : Be.splice(e, 1);
	};
	function Vi(e, t) {
		F[e].alpha = t, jt && Bn[e] != null && (Bn[e].style.opacity = t), At && Lt[e] && (Lt[e].style.opacity = t);
	}
	let Hi, Ui, Wi, Gi = { focus: !0 };
	function Ki(e) {
		if (e != Wi) {
			let t = e == null, n = Ln.alpha != 1;
			F.forEach((r, i) => {
				if (k == 1 || i > 0) {
					let a = t || i == 0 || i == e;
					r._focus = t ? null : a, n && Vi(i, a ? 1 : Ln.alpha);
				}
			}), Wi = e, n && yi();
		}
	}
	At && Rn && Jt(ae, Pt, (e) => {
		W._lock || (Fn(e), Wi != null && Bi(null, Gi, !0, xa.setSeries));
	});
	function qi(e, t, n) {
		let r = I[t];
		n && (e = e / M - (r.ori == 1 ? tn : en));
		let i = G;
		r.ori == 1 && (i = K, e = i - e), r.dir == -1 && (e = i - e);
		let a = r._min, o = r._max, s = e / i, c = a + (o - a) * s, l = r.distr;
		return l == 3 ? Xe(10, c) : l == 4 ? $e(c, r.asinh) : l == 100 ? r.bwd(c) : c;
	}
	O.valToIdx = (e) => De(e, D[0]), O.posToIdx = function(e, t) {
		return De(qi(e, R, t), D[0], Y, X);
	}, O.posToVal = qi, O.valToPos = (e, t, n) => I[t].ori == 0 ? A(e, I[t], n ? cn : G, n ? sn : 0) : j(e, I[t], n ? vn : K, n ? q : 0), O.setCursor = (e, t, n) => {
		Z = e.left, Q = e.top, ta(null, t, n);
	};
	function Ji(e, t) {
		N(Ii, T, $.left = e), N(Ii, x, $.width = t);
	}
	function Yi(e, t) {
		N(Ii, C, $.top = e), N(Ii, S, $.height = t);
	}
	let Xi = z.ori == 0 ? Ji : Yi, Zi = z.ori == 1 ? Ji : Yi;
	function Qi() {
		if (At && U.live) for (let e = +(k == 2); e < F.length; e++) {
			if (e == 0 && Bt) continue;
			let t = U.values[e], n = 0;
			for (let r in t) Rt[e][n++].firstChild.nodeValue = t[r];
		}
	}
	function $i(e, t) {
		if (e != null && (e.idxs ? e.idxs.forEach((e, t) => {
			Dt[t] = e;
		}) : Ct(e.idx) || Dt.fill(e.idx), U.idx = Dt[0]), At && U.live) {
			for (let e = 0; e < F.length; e++) (e > 0 || k == 1 && !Bt) && ea(e, Dt[e]);
			Qi();
		}
		On = !1, t !== !1 && ya("setLegend");
	}
	O.setLegend = $i;
	function ea(e, t) {
		let n = F[e], r = e == 0 && tt == 2 ? yr : D[e], i;
		Bt ? i = n.values(O, e, t) ?? Vt : (i = n.value(O, t == null ? null : r[t], e, t), i = i == null ? Vt : { _: i }), U.values[e] = i;
	}
	function ta(e, t, n) {
		Ai = Z, ji = Q, [Z, Q] = W.move(O, Z, Q), W.left = Z, W.top = Q, jt && (wi && ye(wi, Ke(Z), 0, G, K), Ti && ye(Ti, 0, Ke(Q), G, K));
		let r, i = Y > X;
		Hi = B, Ui = null;
		let a = z.ori == 0 ? G : K, o = z.ori == 1 ? G : K;
		if (Z < 0 || J == 0 || i) {
			r = W.idx = null;
			for (let e = 0; e < F.length; e++) {
				let t = Bn[e];
				t != null && ye(t, -10, -10, G, K);
			}
			Rn && Bi(null, Gi, !0, e == null && xa.setSeries), U.live && (Dt.fill(r), On = !0);
		} else {
			let e, t, n;
			k == 1 && (e = z.ori == 0 ? Z : Q, t = qi(e, R), r = W.idx = De(t, D[0], Y, X), n = it(D[0][r], z, a, 0));
			let i = -10, s = -10, c = 0, l = 0, u = !0, d = "", f = "";
			for (let e = +(k == 2); e < F.length; e++) {
				let p = F[e], m = Dt[e], h = m == null ? null : k == 1 ? D[e][m] : D[e][1][m], g = W.dataIdx(O, e, r, t), _ = g == null ? null : k == 1 ? D[e][g] : D[e][1][g];
				if (On = On || _ != h || g != m, Dt[e] = g, e > 0 && p.show) {
					let t = g == null ? -10 : g == r ? n : it(k == 1 ? D[0][g] : D[e][0][g], z, a, 0), m = _ == null ? -10 : at(_, k == 1 ? I[p.scale] : I[p.facets[1].scale], o, 0);
					if (Rn && _ != null) {
						let t = z.ori == 1 ? Z : Q, n = We(Ln.dist(O, e, g, m, t));
						if (n < Hi) {
							let r = Ln.bias;
							if (r != 0) {
								let i = qi(t, p.scale), a = _ >= 0 ? 1 : -1, o = i >= 0 ? 1 : -1;
								o == a && (o == 1 ? r == 1 ? _ >= i : _ <= i : r == 1 ? _ <= i : _ >= i) && (Hi = n, Ui = e);
							} else Hi = n, Ui = e;
						}
					}
					if (On || zn) {
						let n, r;
						z.ori == 0 ? (n = t, r = m) : (n = m, r = t);
						let a, o, p, h, g, _, v = !0, y = In.bbox;
						if (y != null) {
							v = !1;
							let t = y(O, e);
							p = t.left, h = t.top, a = t.width, o = t.height;
						} else p = n, h = r, a = o = In.size(O, e);
						if (_ = In.fill(O, e), g = In.stroke(O, e), zn) e == Ui && Hi <= Ln.prox && (i = p, s = h, c = a, l = o, u = v, d = _, f = g);
						else {
							let t = Bn[e];
							t != null && (Yn[e] = p, Xn[e] = h, Se(t, a, o, v), xe(t, _, g), ye(t, qe(p), qe(h), G, K));
						}
					}
				}
			}
			if (zn) {
				let e = Ln.prox;
				if (On || (Wi == null ? Hi <= e : Hi > e || Ui != Wi)) {
					let e = Bn[0];
					e != null && (Yn[0] = i, Xn[0] = s, Se(e, c, l, u), xe(e, d, f), ye(e, qe(i), qe(s), G, K));
				}
			}
		}
		if ($.show && Mi) {
			if (e != null) {
				let [t, n] = xa.scales, [r, i] = xa.match, [s, c] = e.cursor.sync.scales, l = e.cursor.drag;
				if (Pi = l._x, Fi = l._y, Pi || Fi) {
					let { left: l, top: u, width: d, height: f } = e.select, p = e.scales[s].ori, m = e.posToVal, h, g, _, v, y, b = t != null && r(t, s), x = n != null && i(n, c);
					b && Pi ? (p == 0 ? (h = l, g = d) : (h = u, g = f), _ = I[t], v = it(m(h, s), _, a, 0), y = it(m(h + g, s), _, a, 0), Xi(Je(v, y), We(y - v))) : Xi(0, a), x && Fi ? (p == 1 ? (h = l, g = d) : (h = u, g = f), _ = I[n], v = at(m(h, c), _, o, 0), y = at(m(h + g, c), _, o, 0), Zi(Je(v, y), We(y - v))) : Zi(0, o);
				} else sa();
			} else {
				let e = We(Ai - Ei), t = We(ji - Di);
				if (z.ori == 1) {
					let n = e;
					e = t, t = n;
				}
				Pi = Ni.x && e >= Ni.dist, Fi = Ni.y && t >= Ni.dist;
				let n = Ni.uni;
				n == null ? Ni.x && Ni.y && (Pi || Fi) && (Pi = Fi = !0) : Pi && Fi && (Pi = e >= n, Fi = t >= n, !Pi && !Fi && (t > e ? Fi = !0 : Pi = !0));
				let r, i;
				Pi && (z.ori == 0 ? (r = Oi, i = Z) : (r = ki, i = Q), Xi(Je(r, i), We(i - r)), Fi || Zi(0, o)), Fi && (z.ori == 1 ? (r = Oi, i = Z) : (r = ki, i = Q), Zi(Je(r, i), We(i - r)), Pi || Xi(0, a)), !Pi && !Fi && (Xi(0, 0), Zi(0, 0));
			}
		}
		if (Ni._x = Pi, Ni._y = Fi, e == null) {
			if (n) {
				if (Sa != null) {
					let [e, t] = xa.scales;
					xa.values[0] = e == null ? null : qi(z.ori == 0 ? Z : Q, e), xa.values[1] = t == null ? null : qi(z.ori == 1 ? Z : Q, t);
				}
				wa(te, O, Z, Q, G, K, r);
			}
			if (Rn) {
				let e = n && xa.setSeries, t = Ln.prox;
				Wi == null ? Hi <= t && Bi(Ui, Gi, !0, e) : Hi > t ? Bi(null, Gi, !0, e) : Ui != Wi && Bi(Ui, Gi, !0, e);
			}
		}
		On && (U.idx = r, $i()), t !== !1 && ya("setCursor");
	}
	let na = null;
	Object.defineProperty(O, "rect", { get() {
		return na ?? ra(!1), na;
	} });
	function ra(e = !1) {
		e ? na = null : (na = Oe.getBoundingClientRect(), ya("syncRect", na));
	}
	function ia(e, t, n, r, i, a, o) {
		W._lock || Mi && e != null && e.movementX == 0 && e.movementY == 0 || (aa(e, t, n, r, i, a, o, !1, e != null), e == null ? ta(t, !0, !1) : ta(null, !0, !0));
	}
	function aa(e, t, n, r, i, a, o, s, c) {
		if (na ?? ra(!1), Fn(e), e != null) n = e.clientX - na.left, r = e.clientY - na.top;
		else {
			if (n < 0 || r < 0) {
				Z = -10, Q = -10;
				return;
			}
			let [e, o] = xa.scales, s = t.cursor.sync, [c, l] = s.values, [u, d] = s.scales, [f, p] = xa.match, m = t.axes[0].side % 2 == 1, h = z.ori == 0 ? G : K, g = z.ori == 1 ? G : K, _ = m ? a : i, v = m ? i : a, y = m ? r : n, b = m ? n : r;
			if (n = u == null ? y / _ * h : f(e, u) ? fe(c, I[e], h, 0) : -10, r = d == null ? b / v * g : p(o, d) ? fe(l, I[o], g, 0) : -10, z.ori == 1) {
				let e = n;
				n = r, r = e;
			}
		}
		c && (t == null || t.cursor.event.type == te) && ((n <= 1 || n >= G - 1) && (n = ft(n, G)), (r <= 1 || r >= K - 1) && (r = ft(r, K))), s ? (Ei = n, Di = r, [Oi, ki] = W.move(O, n, r)) : (Z = n, Q = r);
	}
	let oa = {
		width: 0,
		height: 0,
		left: 0,
		top: 0
	};
	function sa() {
		Li(oa, !1);
	}
	let ca, la, ua, da;
	function fa(e, t, n, r, i, a, o) {
		Mi = !0, Pi = Fi = Ni._x = Ni._y = !1, aa(e, t, n, r, i, a, o, !0, !1), e != null && (Jt(re, ue, pa, !1), wa(ne, O, Oi, ki, G, K, null));
		let { left: s, top: c, width: l, height: u } = $;
		ca = s, la = c, ua = l, da = u;
	}
	function pa(e, t, n, r, i, a, o) {
		Mi = Ni._x = Ni._y = !1, aa(e, t, n, r, i, a, o, !1, !0);
		let { left: s, top: c, width: l, height: u } = $, d = l > 0 || u > 0, f = ca != s || la != c || ua != l || da != u;
		if (d && f && Li($), Ni.setScale && d && f) {
			let e = s, t = l, n = c, r = u;
			if (z.ori == 1 && (e = c, t = u, n = s, r = l), Pi && zi(R, qi(e, R), qi(e + t, R)), Fi) for (let e in I) {
				let t = I[e];
				e != R && t.from == null && t.min != B && zi(e, qi(n + r, e), qi(n, e));
			}
			sa();
		} else W.lock && (W._lock = !W._lock, ta(t, !0, e != null));
		e != null && (Yt(re, ue), wa(re, O, Z, Q, G, K, null));
	}
	function ma(e, t, n, r, i, a, o) {
		if (W._lock) return;
		Fn(e);
		let s = Mi;
		if (Mi) {
			let e = !0, t = !0, n, r;
			z.ori == 0 ? (n = Pi, r = Fi) : (n = Fi, r = Pi), n && r && (e = Z <= 10 || Z >= G - 10, t = Q <= 10 || Q >= K - 10), n && e && (Z = Z < Oi ? 0 : G), r && t && (Q = Q < ki ? 0 : K), ta(null, !0, !0), Mi = !1;
		}
		Z = -10, Q = -10, Dt.fill(null), ta(null, !0, !0), s && (Mi = s);
	}
	function ha(e, t, n, r, i, a, o) {
		W._lock || (Fn(e), Cr(), sa(), e != null && wa(oe, O, Z, Q, G, K, null));
	}
	function ga() {
		Le.forEach(oi), kn(O.width, O.height, !0);
	}
	Te(ce, de, ga);
	let _a = {};
	_a.mousedown = fa, _a.mousemove = ia, _a.mouseup = pa, _a.dblclick = ha, _a.setSeries = (e, t, n, r) => {
		n = (0, xa.match[2])(O, t, n), n != -1 && Bi(n, r, !0, !1);
	}, jt && (Jt(ne, Oe, fa), Jt(te, Oe, ia), Jt(ie, Oe, (e) => {
		Fn(e), ra(!1);
	}), Jt(ae, Oe, ma), Jt(oe, Oe, ha), Wr.add(O), O.syncRect = ra);
	let va = O.hooks = e.hooks || {};
	function ya(e, t, n) {
		gi ? _i.push([
			e,
			t,
			n
		]) : e in va && va[e].forEach((e) => {
			e.call(null, O, t, n);
		});
	}
	(e.plugins || []).forEach((e) => {
		for (let t in e.hooks) va[t] = (va[t] || []).concat(e.hooks[t]);
	});
	let ba = (e, t, n) => n, xa = kt({
		key: null,
		setSeries: !1,
		filters: {
			pub: ct,
			sub: ct
		},
		scales: [R, F[1] ? F[1].scale : null],
		match: [
			lt,
			lt,
			ba
		],
		values: [null, null]
	}, W.sync);
	xa.match.length == 2 && xa.match.push(ba), W.sync = xa;
	let Sa = xa.key, Ca = mr(Sa);
	function wa(e, t, n, r, i, a, o) {
		xa.filters.pub(e, t, n, r, i, a, o) && Ca.pub(e, t, n, r, i, a, o);
	}
	Ca.sub(O), O.pub = function(e, t, n, r, i, a, o) {
		xa.filters.sub(e, t, n, r, i, a, o) && _a[e](null, t, n, r, i, a, o);
	}, O.destroy = function() {
		Ca.unsub(O), Wr.delete(O), qt.clear(), Ee(ce, de, ga), ve.remove(), Pt?.remove(), ya("destroy");
	};
	function Ta() {
		ya("init", e, D), Sr(D || e.data, !1), ut[R] ? xi(R, ut[R]) : Cr(), Dn = $.show && ($.width > 0 || $.height > 0), En = On = !0, kn(e.width, e.height);
	}
	return F.forEach(Qn), Le.forEach(ar), se ? se instanceof HTMLElement ? (se.appendChild(ve), Ta()) : se(O, Ta) : Ta(), O;
}
si.assign = kt, si.fmtNum = Ve, si.rangeNum = Re, si.rangeLog = Ne, si.rangeAsinh = Pe, si.orient = J, si.pxRatio = M, si.join = function(e, t) {
	if (Ft(e)) {
		let t = e[0].slice();
		for (let n = 1; n < e.length; n++) t.push(...e[n].slice(1));
		return It(t[0]) || (t = Pt(t)), t;
	}
	let n = /* @__PURE__ */ new Set();
	for (let t = 0; t < e.length; t++) {
		let r = e[t][0], i = r.length;
		for (let e = 0; e < i; e++) n.add(r[e]);
	}
	let r = [Array.from(n).sort((e, t) => e - t)], i = r[0].length, a = /* @__PURE__ */ new Map();
	for (let e = 0; e < i; e++) a.set(r[0][e], e);
	for (let n = 0; n < e.length; n++) {
		let o = e[n], s = o[0];
		for (let e = 1; e < o.length; e++) {
			let c = o[e], l = Array(i).fill(void 0), u = t ? t[n][e] : At, d = [];
			for (let e = 0; e < c.length; e++) {
				let t = c[e], n = a.get(s[e]);
				t === null ? u != W && (l[n] = t, u == jt && d.push(n)) : l[n] = t;
			}
			Mt(l, d, i), r.push(l);
		}
	}
	return r;
}, si.fmtDate = Gt, si.tzDate = function(e, t) {
	let n;
	return t == "UTC" || t == "Etc/UTC" ? n = /* @__PURE__ */ new Date(+e + e.getTimezoneOffset() * 6e4) : t == Kt ? n = e : (n = new Date(e.toLocaleString("en-US", { timeZone: t })), n.setMilliseconds(e.getMilliseconds())), n;
}, si.sync = mr;
{
	si.addGap = yr, si.clipGaps = vr;
	let e = si.paths = { points: Nr };
	e.linear = Lr, e.stepped = Rr, e.bars = Br, e.spline = Hr;
}
// src/charts/draw.ts
var ci = 170;
function li(e, t, n, r) {
	let [i, a] = [ui(e, "--ink-quiet"), ui(e, "--line")], o = {
		stroke: i,
		grid: {
			stroke: a,
			width: 1
		},
		ticks: {
			stroke: a,
			width: 1
		},
		font: "12px system-ui, sans-serif"
	}, s = new si({
		width: Math.max(200, e.clientWidth),
		height: ci,
		legend: { show: !1 },
		cursor: { show: !1 },
		scales: { y: { range: (e, t, n) => [0, Math.max(n, r) * 1.1] } },
		axes: [{
			...o,
			values: (e, t) => t.map((e) => (/* @__PURE__ */ new Date(e * 1e3)).toLocaleTimeString(void 0, {
				hour: "2-digit",
				minute: "2-digit",
				second: "2-digit"
			})),
			space: 80
		}, {
			...o,
			values: (e, t) => t.map(n),
			size: 72
		}],
		series: [{}, ...t.map(({ colour: t, dash: n }) => ({
			stroke: ui(e, t),
			width: 2,
			points: { show: !1 },
			...n === void 0 ? {} : { dash: [...n] }
		}))]
	}, [[], ...t.map(() => [])], e), c = new ResizeObserver(() => s.setSize({
		width: Math.max(200, e.clientWidth),
		height: ci
	}));
	return c.observe(e), {
		show: (e, t) => s.setData([e, ...t]),
		end: () => {
			c.disconnect(), s.destroy();
		}
	};
}
function ui(e, t) {
	let n = document.createElement("span");
	n.style.color = `var(${t})`, e.append(n);
	let r = getComputedStyle(n).color;
	return n.remove(), r;
}
export { li as draw };
