// The page of `flashrt demo --html`: @…@ marks are filled in by page.cpp; script and style are inline,
// nothing is loaded.
#pragma once

namespace flashrt::tabletop {

inline constexpr const char* kPageTemplate = R"page(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>FlashRT · tabletop</title>
<link rel="icon" href="data:,">
<style>
:root{--bg:#f6f4ef;--card:#fff;--ink:#22262e;--dim:#6c7280;--line:#e3ded3;--good:#2e9e44;--bad:#d6302a;
--blue:#2462d6}
@media(prefers-color-scheme:dark){:root{--bg:#16181d;--card:#1f2229;--ink:#e8e6e1;--dim:#949aa7;--line:#31353e;
--good:#4cc265;--bad:#f0625c;--blue:#6b9bff}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:26px;margin:0}h2{font-size:17px;margin:34px 0 12px}
.sub{color:var(--dim);margin:2px 0 22px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:12px}
.tile,.clip,.plot{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.tile b{display:block;font-size:25px;font-weight:650;font-variant-numeric:tabular-nums}
.tile span{color:var(--dim)}
.plots{display:grid;grid-template-columns:2fr 1fr;gap:12px}
.plot svg{width:100%;height:200px;display:block}.plot p{margin:0 0 6px;color:var(--dim)}
.clips{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,350px),1fr));gap:14px}
.clip p{margin:0 0 10px;min-height:44px;font-weight:550}
.views{display:grid;grid-template-columns:1fr 1fr;gap:8px}
canvas{width:100%;border-radius:6px;display:block;background:#e2dbcd}
.foot{display:flex;align-items:center;gap:10px;margin-top:10px;color:var(--dim);font-size:13px;
font-variant-numeric:tabular-nums}
.chip{padding:1px 9px;border-radius:99px;color:#fff;font-weight:600;font-size:12px}
.yes{background:var(--good)}.no{background:var(--bad)}
input{flex:1;min-width:0;accent-color:var(--blue)}
text{fill:var(--dim);font-size:11px}.axis{stroke:var(--line)}.mark{stroke:var(--blue);stroke-dasharray:4 3}
.dot{fill:var(--blue);opacity:.75}.bar{fill:var(--blue);opacity:.75}
@media(max-width:720px){.plots{grid-template-columns:1fr}}
</style></head><body><main>
<h1>Tabletop</h1><p class="sub" id="sub"></p>
<div class="tiles" id="tiles"></div>
<h2>Latency of a policy call</h2>
<div class="plots"><div class="plot"><p>every call, in order (ms)</p><svg id="calls"></svg></div>
<div class="plot"><p>distribution (number of calls)</p><svg id="histogram"></svg></div></div>
<h2>Episodes <span style="color:var(--dim);font-weight:400">· left the table, right the wrist camera, as the
policy sees them</span></h2>
<div class="clips" id="clips"></div>
</main><script>
"use strict";
const summary=@SUMMARY@;
const subtitle=@SUBTITLE@;
const palette=@PALETTE@;
const episodes=@EPISODES@;
const el=(tag,cls,text)=>{const e=document.createElement(tag);if(cls)e.className=cls;
  if(text!==undefined)e.textContent=text;return e};
const byId=id=>document.getElementById(id);
// Literal runs and matches, as in compress.h.
function unpack(text,size){
  const raw=atob(text),out=new Uint8Array(size);let at=0,n=0;
  const varint=()=>{let v=0,s=1,b;do{b=raw.charCodeAt(at++);v+=(b&127)*s;s*=128}while(b>127);return v};
  while(n<size){
    for(let k=varint();k>0;k--)out[n++]=raw.charCodeAt(at++);
    if(n>=size)break;
    const length=varint(),from=n-varint();
    for(let k=0;k<length;k++)out[n++]=out[from+k];
  }
  return out;
}
function fnv(bytes){let h=2166136261;for(const b of bytes)h=Math.imul(h^b,16777619);return h>>>0}
function tiles(){
  const pct=v=>(100*v).toFixed(0)+" %",add=(value,label)=>{const t=el("div","tile");
    t.append(el("b","",value),el("span","",label));byId("tiles").append(t)};
  add(summary.successes+" / "+summary.episodes,"episodes succeeded");
  add(pct(summary.success_rate),
    "success rate (95 %: "+(100*summary.ci95[0]).toFixed(0)+" – "+pct(summary.ci95[1])+")");
  add(summary.policy_ms_p50.toFixed(1)+" ms","policy call, median");
  add(summary.policy_ms_p99.toFixed(1)+" ms","policy call, 99th percentile");
  for(const [family,t] of Object.entries(summary.tasks))if(t.episodes)add(t.successes+" / "+t.episodes,family);
}
function svg(parent,tag,attributes,text){
  const e=document.createElementNS("http://www.w3.org/2000/svg",tag);
  for(const [k,v] of Object.entries(attributes))e.setAttribute(k,v);
  if(text!==undefined)e.textContent=text;parent.append(e);return e;
}
function frame(id,w,h,top,format){
  const s=byId(id);s.setAttribute("viewBox","0 0 "+w+" "+h);
  for(let i=0;i<=4;i++){const y=h-22-(h-34)*i/4;svg(s,"line",{class:"axis",x1:40,x2:w,y1:y,y2:y});
    svg(s,"text",{x:34,y:y+4,"text-anchor":"end"},format(top*i/4))}
  return s;
}
function plots(){
  const ms=episodes.flatMap(e=>e.policy_ms);if(!ms.length)return;
  const top=Math.max(...ms)*1.1||1,digits=top<4?2:top<40?1:0,label=v=>v.toFixed(digits);
  const w=760,h=200,s=frame("calls",w,h,top,label),y=v=>h-22-(h-34)*v/top,x=i=>48+(w-60)*(i+.5)/ms.length;
  ms.forEach((v,i)=>svg(s,"circle",{class:"dot",cx:x(i),cy:y(v),r:2.6}));
  for(const [v,t] of [[summary.policy_ms_p50,"p50"],[summary.policy_ms_p99,"p99"]]){
    svg(s,"line",{class:"mark",x1:40,x2:w,y1:y(v),y2:y(v)});
    svg(s,"text",{x:w-4,y:y(v)-4,"text-anchor":"end"},t+" "+label(v))}
  svg(s,"text",{x:48,y:h-6},"first call");svg(s,"text",{x:w-4,y:h-6,"text-anchor":"end"},"call "+ms.length);
  const bins=24,counts=new Array(bins).fill(0);ms.forEach(v=>counts[Math.min(bins-1,Math.floor(v/top*bins))]++);
  const most=Math.ceil(Math.max(...counts)/4)*4,w2=380,s2=frame("histogram",w2,h,most,v=>v.toFixed(0));
  counts.forEach((n,i)=>{const bh=(h-34)*n/most,bw=(w2-52)/bins;
    svg(s2,"rect",{class:"bar",x:46+i*bw,y:h-22-bh,width:bw-1.5,height:bh,rx:1})});
  svg(s2,"text",{x:46,y:h-6},"0 ms");svg(s2,"text",{x:w2-4,y:h-6,"text-anchor":"end"},label(top)+" ms");
}
function clip(e){
  const card=el("div","clip"),views=el("div","views"),foot=el("div","foot"),pixels=e.size*e.size;
  const players=e.cameras.map((text,c)=>{
    const canvas=el("canvas");canvas.width=canvas.height=e.size;views.append(canvas);
    const context=canvas.getContext("2d",{willReadFrequently:true}),
      image=context.createImageData(e.size,e.size);
    const frames=unpack(text,pixels*e.frames);
    canvas.dataset.stream=fnv(frames);
    return k=>{for(let i=0;i<pixels;i++){const p=palette[frames[k*pixels+i]],o=4*i;image.data[o]=p>>16;
      image.data[o+1]=p>>8&255;image.data[o+2]=p&255;image.data[o+3]=255}
      context.putImageData(image,0,0);return canvas};
  });
  const slider=el("input"),clock=el("span");slider.type="range";slider.max=e.frames-1;slider.value=0;
  slider.setAttribute("aria-label","frame");
  const show=k=>{slider.value=k;clock.textContent=(k/10).toFixed(1)+" s";
    let call=0;while(call+1<e.replans.length&&e.replans[call+1]<=k)call++;
    clock.title="policy call "+(call+1)+": "+e.policy_ms[call]+" ms";
    return players.map(p=>p(k))};
  const state={k:0,hold:0,playing:true};
  slider.oninput=()=>{state.playing=false;show(+slider.value)};
  views.onclick=()=>{state.playing=!state.playing;state.k=+slider.value};
  foot.append(el("span","chip "+(e.success?"yes":"no"),e.success?"success":"failed"),slider,clock,
    el("span","","seed "+e.seed));
  card.append(el("p","","“"+e.prompt+"”"),views,foot);byId("clips").append(card);
  // What the browser really painted, for the check in the tests.
  for(const canvas of show(0)){const d=canvas.getContext("2d").getImageData(0,0,e.size,e.size).data,rgb=[];
    for(let i=0;i<d.length;i+=4)rgb.push(d[i],d[i+1],d[i+2]);canvas.dataset.painted=fnv(rgb)}
  return ()=>{if(!state.playing)return;
    if(state.k<e.frames-1)show(++state.k);else if(++state.hold>12){state.hold=0;show(state.k=0)}};
}
byId("sub").textContent=subtitle;
tiles();plots();
const tick=episodes.map(clip);
setInterval(()=>tick.forEach(t=>t()),100);
document.body.dataset.ready=episodes.length;
</script></body></html>
)page";

}  // namespace flashrt::tabletop
